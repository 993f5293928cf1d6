"""The teaching's part of a training session; without a ``teacher`` in the settings it does nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from ...envs.scenario import scenario_sha256
from ..run_dir import RunDir
from ..training_plan import Plan
from .best_stage import best_stage, choice_line
from .frozen_actor import FrozenActor
from .school import School
from .stage_book import RL, StageBook


class Teaching:
    """Stages before the RL, the frozen actor at its start; at its end the choice of the model that is handed out.

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
        self._teacher, self._say = plan.settings.teacher, say
        self._model: Any = None
        self._school: School | None = None
        if self._teacher is not None:
            self._book = StageBook(run, _head(plan))
            self._school = School(plan, self._book, multiplier, self._log, say, pause)

    def before(self, model: Any) -> None:
        """Teach a model that has made no step yet, from the stage on that is not done."""
        self._model = model
        if self._school is not None:
            self._school.teach(model)

    def callbacks(self) -> list[BaseCallback]:
        """What the RL after it needs."""
        frozen = 0 if self._teacher is None else self._teacher.actor_frozen_steps
        return [FrozenActor(frozen)] if frozen else []

    def after(self, model: Any, seconds: float | None) -> Path | None:
        """Score the model after the RL, if there was any, and choose what the run hands out.

        Args:
            model: after its last step. If an earlier stage is better, it is given that stage's parameters.
            seconds: that the run took, all sessions together; None where nothing measured it.

        Returns:
            The model file of the stage that is handed out; None where it is the model's last state.
        """
        if self._teacher is None or self._school is None:
            return None
        self._model = model
        if model.num_timesteps:
            self._school.conclude(model, math.nan if seconds is None else seconds)
        rows = self._book.rows
        best = best_stage(rows)
        self._book.hand_out(best["name"])
        self._say(choice_line(best, rows, self._teacher.held_back))
        if best["name"] == RL:
            return None
        file = self._book.model_file(rows.index(dict(best)), best["name"])
        model.set_parameters(file, device=model.device)
        return file

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
