"""The teaching's part of a training session; without a ``teacher`` in the settings it does nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from ...envs.scenario import scenario_sha256
from ..run_dir import RunDir
from ..training_plan import Plan
from .frozen_actor import FrozenActor
from .school import School
from .stage_book import StageBook


class Teaching:
    """Stages before the RL, the frozen actor at its start, and the row of the RL in the book at its end.

    Args:
        plan: of the run.
        run: its folder.
        multiplier: of the SLO's constraint at its start, None without one.
        say: takes lines for people.
        pause: raises where the run was asked to stop.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunDir,
        multiplier: float | None,
        say: Callable[[str], None],
        pause: Callable[[], None],
    ) -> None:
        """Open the run's book of stages where there is a teacher."""
        self._teacher = plan.settings.teacher
        self._model: Any = None
        self._school: School | None = None
        if self._teacher is not None:
            book = StageBook(run, _head(plan))
            self._school = School(plan, book, multiplier, self._log, say, pause)

    def before(self, model: Any) -> None:
        """Teach a model that has made no step yet, from the stage on that is not done."""
        self._model = model
        if self._school is not None:
            self._school.teach(model)

    def callbacks(self) -> list[BaseCallback]:
        """What the RL after it needs."""
        frozen = 0 if self._teacher is None else self._teacher.actor_frozen_steps
        return [FrozenActor(frozen)] if frozen else []

    def after(self, model: Any, seconds: float) -> None:
        """Score the final model.

        Args:
            model: after its last step.
            seconds: that the run took, all sessions together.
        """
        self._model = model
        if self._school is not None:
            self._school.conclude(model, seconds)

    def _log(self, values: Mapping[str, float], number: int) -> None:
        for tag, value in values.items():
            self._model.logger.record(tag, value)
        self._model.logger.dump(number)


def _head(plan: Plan) -> dict[str, Any]:
    assert plan.settings.teacher is not None
    return {
        "scenario": plan.scenario.name,
        "scenario_sha256": scenario_sha256(plan.scenario),
        "algorithm": plan.algo,
        "seed": plan.seed,
        "scored_on": {"part": "training", "episodes": plan.settings.teacher.held_back},
    }
