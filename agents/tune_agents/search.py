"""The search: optuna proposes settings, trainings try them, and what falls behind is given up.

The study lies in a journal file. Only this process writes to it, after each score, so it can be killed at any moment: a
trial that was on its way goes on from its checkpoint, and no finished trial is trained again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError
from ..tune_objective import Objective
from .options import AgentTuneOptions
from .pool import Pool
from .space import Space
from .worker import Done, Job, Rung, drop_checkpoints

Report = Callable[[int], None]  # trials that have ended since the last call
MakeJob = Callable[[Any, Mapping[str, Any]], Job]  # from key and changes


@dataclass(frozen=True)
class Tried:
    """A finished trial: its number, the changes it made, and its objective, mg."""

    number: int
    changes: dict[str, Any]
    value: float


class AgentSearch:
    """One session of a search."""

    def __init__(
        self,
        study: Any,
        space: Space,
        options: AgentTuneOptions,
        make_job: MakeJob,
        pool: Pool,
        report: Report,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare; ``stopping`` tells whether the search was asked to end."""
        from optuna.pruners import MedianPruner

        self._study, self._space, self._options = study, space, options
        self._make_job, self._pool, self._report, self._stopping = make_job, pool, report, stopping
        study.pruner = MedianPruner(n_startup_trials=options.startup)
        self._running: dict[int, Any] = {}

    def run(self) -> None:
        """Search until the study holds the trials that were asked for, given up ones counted.

        Raises:
            CarbonPilotError: asked to stop; or a training failed, which no settings of the space should.
        """
        left_over = self._left_over()
        self._report(len(ended(self._study)))
        asked = False
        while self._running or (self._wanted(left_over) and not self._stopping()):
            if self._stopping() and not asked:
                asked = True
                self._pool.stop()
            while self._wanted(left_over) and self._pool.room and not self._stopping():
                self._start(left_over.pop(0) if left_over else self._study.ask(self._space.distributions()))
            for done in self._pool.take(self._answer):
                self._finish(done)
        if self._stopping():
            raise CarbonPilotError(
                f"Stopped when asked to, {len(ended(self._study))} of {self._options.trials} trials have ended. "
                "With --study FILE the same command goes on."
            )

    def _wanted(self, left_over: list[Any]) -> bool:
        return bool(left_over) or len(ended(self._study)) + len(self._running) < self._options.trials

    def _left_over(self) -> list[Any]:
        """Trials that a session before this one began."""
        from optuna.trial import Trial, TrialState

        began = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [Trial(self._study, trial._trial_id) for trial in began]

    def _start(self, trial: Any) -> None:
        self._running[trial.number] = trial
        self._pool.give(self._make_job(trial.number, self._space.changes(trial.params)))

    def _answer(self, rung: Rung) -> bool:
        """Note a score on the way; whether to go on."""
        trial = self._running[rung.key]
        with warnings.catch_warnings():
            # A trial that goes on from its checkpoint may report a rung again; the first value stays.
            warnings.simplefilter("ignore", UserWarning)
            trial.report(value_of(self._options.objective, rung.scores), rung.number)
        return not trial.should_prune()

    def _finish(self, done: Done) -> None:
        from optuna.trial import TrialState

        trial = self._running.pop(done.key)
        folder = self._make_job(done.key, {}).folder
        if done.scores is not None:
            trial.set_user_attr("carbon_mg", float(done.scores.mean_carbon_mg[0]))
            trial.set_user_attr("compliance", float(done.scores.compliance[0]))
            self._study.tell(trial, value_of(self._options.objective, done.scores))
        elif done.reason == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
            drop_checkpoints(folder)
        elif self._stopping():
            return  # stays as it is, and goes on next time
        else:
            raise CarbonPilotError(
                f"Trial {done.key} ({self._space.changes(trial.params)}) failed: {done.reason}\n"
                f"Its log: {folder.with_suffix('.log')}. With --study FILE the same command tries it again."
            )
        self._report(1)


def value_of(objective: Objective, scores: Any) -> float:
    """The objective of one training, mg; smaller is better."""
    return float(objective.values(scores)[0])


def ended(study: Any) -> list[Any]:
    """Trials that are over: finished or given up."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.name in ("COMPLETE", "PRUNED")]


def best(study: Any, space: Space, count: int) -> list[Tried]:
    """The best finished trials with different settings, best first."""
    done = sorted((t for t in ended(study) if t.state.name == "COMPLETE"), key=lambda t: (t.value, t.number))
    distinct = {tuple(sorted(t.params.items())): t for t in reversed(done)}
    kept = [t for t in done if distinct[tuple(sorted(t.params.items()))] is t]
    return [Tried(t.number, space.changes(t.params), t.value) for t in kept[:count]]


def trial_folder(runs: Path, number: int) -> Path:
    """Run folder of a trial."""
    return runs / f"trial-{number:04d}"
