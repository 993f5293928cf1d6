"""Other tenants of a server: a process beside it that asks for images as Poisson arrivals, so its load is real.

The images are flat grey JPEG files or pixels of the model's size, so that they cost next to nothing to send and read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError, InputError
from ..probes.triton_counters import capacity_per_s
from .child import end_child
from .namespaces import owner, run_in
from .repository.settings import ModelSet, ServedModel

FILE = "tenants.json"
_END_S = 5.0


@dataclass(frozen=True)
class TenantSettings:
    """What the tenants ask for.

    Attributes:
        model: name on the server.
        rate_per_s: images a second, on average; each request holds one.
        bursts: the rate alternates between 1.8 and 0.2 times that, for 2 s each on average (assumed).
        most_waiting: requests under way at most; a further one is not sent, and counted.
        seed: of the arrivals.
    """

    model: str
    rate_per_s: float
    bursts: bool = False
    most_waiting: int = 500
    seed: int = 0


def capacity(model: ServedModel) -> float:
    """Images a second that a stand-in serves in full batches, as the simulator counts a node's capacity.

    Raises:
        InputError: the model is a real graph, whose time is not known.
    """
    if model.service_ms is None:
        raise InputError(f"{model.name} is a real graph, so its capacity is not known. Give --rate instead.")
    return capacity_per_s(model.service_ms, 1, model.max_batch, model.marginal_service_share)


def for_load(models: ModelSet, served: str, load: float, **more: Any) -> TenantSettings:
    """Tenants whose load is that share of the model's capacity; above 1 the queue grows without end.

    Raises:
        InputError: no such model, or a load that cannot be.
    """
    if not 0 < load <= 20:
        raise InputError(f"load must be above 0 and at most 20, a share of the capacity, got {load}")
    return TenantSettings(served, load * capacity(models.model(served)), **more)


class Tenants:
    """A running load, for the length of a with block or until `stop`.

    Args:
        grpc: ``host:port`` of the server as seen from ``namespace``.
        settings: what to ask for.
        report: file that gets `read_report`'s counts once a second and at the end.
        namespace: where to run; None: this machine's own network.
    """

    def __init__(
        self, grpc: str, settings: TenantSettings, report: Path, namespace: str | None = None
    ) -> None:
        """Nothing is sent yet."""
        self.settings, self.report = settings, report
        self._grpc, self._namespace = grpc, namespace
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Begin to send.

        Raises:
            CarbonPilotError: the server did not take the first image.
        """
        argv = [sys.executable, "-m", f"{__package__}.tenants_process", self._grpc, str(self.report)]
        argv.append(json.dumps(asdict(self.settings)))
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
        pipes |= {"stderr": subprocess.STDOUT, "start_new_session": True}
        self.report.unlink(missing_ok=True)
        self._process = (
            run_in(self._namespace, argv, **pipes) if self._namespace else subprocess.Popen(argv, **pipes)
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != "sending":
            words = [said, *self._process.stdout.read().strip().splitlines()]
            self.stop()
            raise CarbonPilotError(f"The tenants did not start: {words[-1] or 'no answer'}")

    def detach(self) -> str:
        """Let them live on when this process ends; returns ``PID-START`` of theirs (`namespaces.owner`)."""
        process, self._process = self._process, None
        if process is None:
            raise CarbonPilotError("the tenants have not been started, so they have no process yet")
        if process.stdout is not None:
            process.stdout.close()
        process.returncode = 0  # nothing here waits for it, or warns that nothing does
        return owner(process.pid)

    def stop(self) -> dict[str, Any]:
        """Stop sending, wait for what is under way (at most 3 s) and return the counts."""
        process, self._process = self._process, None
        if process is not None:
            end_child(process, _END_S)
        return read_report(self.report)

    def __enter__(self) -> Tenants:
        """Start, see `start`."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, see `stop`."""
        self.stop()


def read_report(report: Path) -> dict[str, Any]:
    """Counts of tenants that run or ran.

    Returns:
        ``sent``, ``answered``, ``failed`` (by the server's word), ``held_back`` (too many under way), ``waiting``,
        ``seconds``, ``latency_mean_ms``, ``cpu_share`` of a processor, and the settings; empty where there are none.
    """
    with suppress(OSError, ValueError):
        return json.loads(report.read_text())
    return {}
