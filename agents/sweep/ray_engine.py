"""Trials on a Ray cluster: one task each, running the same command as without Ray.

Ray only decides where a trial runs and notices that a worker or a machine is lost. The run folders lie in the sweep's
folder, which every machine has to see under the same path (a shared file system).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from ...envs.errors import CarbonPilotError, MissingExtraError
from .folder import SweepFolder
from .process import POLL_S, Ended, ended
from .ray_worker import Job, play
from .trial import AnyTrial


class RayEngine:
    """Runs trials as Ray tasks; a lost worker's trial is reported as lost, and the sweep starts it again.

    Attributes:
        jobs: trials that are handed to Ray at a time.
    """

    def __init__(self, folder: SweepFolder, jobs: int | None, address: str | None) -> None:
        """Connect to a cluster, or start a local instance.

        Args:
            folder: the sweep's.
            jobs: trials at a time; None: as many as the cluster has CPUs.
            address: of a running cluster (``auto`` for the one on this machine); None starts a local instance.

        Raises:
            MissingExtraError: ray is not installed.
            CarbonPilotError: there is no cluster at the address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no report about its use to anybody
        try:
            import ray
        except ImportError:
            raise MissingExtraError("carbonpilot sweep run --engine ray", "ray") from None
        self._ray, self._folder = ray, folder
        self._tasks: dict[Any, str] = {}
        options: dict[str, Any] = (
            {"address": address} if address else {"num_cpus": jobs, "include_dashboard": False}
        )
        with _connecting(address):
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        self.jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._play = ray.remote(num_cpus=1, max_retries=0)(play)

    @property
    def running(self) -> int:
        """Trials that are on their way."""
        return len(self._tasks)

    def start(self, trial: AnyTrial) -> None:
        """Hand a trial to Ray."""
        folder = self._folder
        job = Job(
            str(folder.path), folder.token, trial.name, folder.words(trial), str(folder.log(trial.name))
        )
        self._tasks[self._play.remote(job)] = trial.name

    def wait(self) -> list[Ended]:
        """The trials that have ended; looks for a moment, and may find none."""
        if not self._tasks:
            return []
        done, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=POLL_S)
        return [self._ended(self._tasks.pop(task), task) for task in done]

    def _ended(self, name: str, task: Any) -> Ended:
        try:
            return ended(name, self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:  # our own code in the worker raised
            return Ended(name, 1, str(error.cause))
        except self._ray.exceptions.RayError as error:
            return Ended(name, None, f"the worker was lost ({type(error).__name__})")

    def stop(self) -> None:
        """Ask each training to save and end; the workers look for this file."""
        self._folder.stop_file.touch()

    def close(self) -> None:
        """Let nothing run on."""
        self._ray.shutdown()


@contextlib.contextmanager
def _connecting(address: str | None) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at '{address}'" if address else "a local Ray instance"
        raise CarbonPilotError(f"Cannot reach {where}: {error}") from error
