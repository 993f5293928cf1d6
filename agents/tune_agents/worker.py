"""A process that trains with settings that it is told, scores them on training tapes, and asks whether to go on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from ...envs.errors import CarbonPilotError
from ...envs.schema import Scenario
from ..policy import Policy
from ..rollout import run_policy
from ..run_dir import RunDir
from ..sb3_policy import Sb3Policy
from ..sweep.child import die_with_parent
from ..train import train
from ..tune_evaluate import Scores

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        key: what the asker calls it.
        scenario: as `train` takes it.
        traces: trace folder, or None.
        algo, steps, seed: of the training.
        settings_file: settings that ``changes`` are laid over; None for the shipped ones.
        changes: single settings.
        folder: run folder; one that is there goes on.
        tapes: seeds of the training tapes that it is scored on.
        rungs: number of scores, the last at the end.
        risk: folder of the risk head and price that the policy is laid over, or None.
    """

    key: Any
    scenario: str
    traces: str | None
    algo: str
    steps: int
    seed: int
    settings_file: str | None
    changes: Mapping[str, Any]
    folder: Path
    tapes: I64
    rungs: int = 1
    risk: Path | None = None


@dataclass(frozen=True)
class Rung:
    """A score on the way; the worker waits for the answer whether to go on."""

    key: Any
    number: int
    scores: Scores


@dataclass(frozen=True)
class Done:
    """How a training ended.

    Attributes:
        key: of the job.
        scores: of the finished policy; None where there is none.
        reason: "" where it finished, "pruned", "stopped", or what went wrong.
    """

    key: Any
    scores: Scores | None
    reason: str = ""


class Pruned(Exception):  # noqa: N818 (not an error: the search asked for it)
    """The search does not want to go on with these settings."""


def work(connection: Connection, parent: int) -> None:
    """Train what comes through the connection until it says None."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asker's business, which sends SIGTERM
    while (job := connection.recv()) is not None:
        connection.send(_train(job, lambda rung: _ask(connection, rung)))


def _ask(connection: Connection, rung: Rung) -> bool:
    connection.send(rung)
    return connection.recv()


def _train(job: Job, ask: Callable[[Rung], bool]) -> Done:
    log = job.folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("a") as file:
            _run(job, ask, Console(file=file, width=120))
    except Pruned:
        return Done(job.key, None, "pruned")
    except CarbonPilotError as error:
        stopped = _status(job.folder) == "stopped"
        return Done(job.key, None, "stopped" if stopped else str(error))
    run = RunDir(job.folder)
    scores = score(Sb3Policy.load(job.folder), run.scenario, job.tapes, job.traces)
    return Done(job.key, scores)


def _run(job: Job, ask: Callable[[Rung], bool], console: Console) -> None:
    train(
        job.scenario,
        job.algo,
        job.steps,
        job.seed,
        job.folder,
        traces=job.traces,
        resume=(job.folder / "config.yaml").is_file(),
        settings_file=job.settings_file,
        # Evaluations of the run itself are for watching; here they cost time and would need tapes of their own.
        settings={**job.changes, "evaluations": 1, "evaluation_episodes": 1},
        console=console,
        evaluation_part="training",
        risk=job.risk,
        watchers=[Rungs(job, ask)] if job.rungs > 1 else [],
    )


def _status(folder: Path) -> str:
    return RunDir(folder).progress().get("status", "") if (folder / "config.yaml").is_file() else ""


class Rungs(BaseCallback):
    """Scores the policy of the moment at evenly spread steps, and ends the training where the asker says so."""

    def __init__(self, job: Job, ask: Callable[[Rung], bool]) -> None:
        """Score for ``job``, all rungs but the last, which is the end."""
        super().__init__()
        self._job, self._ask = job, ask
        self._steps = [job.steps * i // job.rungs for i in range(1, job.rungs)]
        self._number: int | None = None

    def _on_rollout_start(self) -> None:
        done = self.num_timesteps
        if self._number is None:  # a session that goes on from a checkpoint skips what it has passed
            self._number = sum(step <= done for step in self._steps)
        if self._number < len(self._steps) and done >= self._steps[self._number]:
            self._number = sum(step <= done for step in self._steps)
            scenario = RunDir(self._job.folder).scenario
            scores = score(Sb3Policy(self.model, "trial"), scenario, self._job.tapes, self._job.traces)
            if not self._ask(Rung(self._job.key, self._number, scores)):
                raise Pruned

    def _on_step(self) -> bool:
        return True


def score(policy: Policy, scenario: Scenario, seeds: I64, traces: str | None) -> Scores:
    """Play a policy on training tapes (T,); the scores are those of one setting (1, T)."""
    record = run_policy(policy, scenario, seeds, "training", traces)
    requests = record.valid.sum(axis=0)
    carbon = np.where(record.valid, record.carbon_mg, 0.0).sum(axis=0) / requests
    misses = (record.missed & record.valid).sum(axis=0).astype(np.float64)
    # As agents.metrics.latency_quantiles: the quantile is the ceil(q n)-th smallest latency.
    allowed = requests - np.ceil(scenario.slo.quantile * requests - 1e-9)
    return Scores(carbon[None], misses[None], allowed[None])


def drop_checkpoints(folder: Path) -> None:
    """Free the space of a run that will not go on; its curves and its final model stay."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
