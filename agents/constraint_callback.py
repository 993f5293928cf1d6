"""The constraint beside the learning: who missed is counted, the multiplier moves between rollouts, both are logged."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from .constraint import PidLagrangian


class ConstraintCallback(BaseCallback):
    """Feeds the controller with the requests that the policy itself has placed.

    Random placements of an exploring Q-learner do not count: their misses say nothing about the policy, and at the
    start of a run, when all are random, they would drive the multiplier to its bound.
    """

    def __init__(self, constraint: PidLagrangian) -> None:
        """Take the controller."""
        super().__init__()
        self._constraint = constraint

    def _on_step(self) -> bool:
        env: Any = self.training_env
        chosen = ~getattr(self.model, "explored", np.zeros(env.num_envs, dtype=bool))
        missed = env.missed & chosen
        self._constraint.count(int(missed.sum()), float(env.weights[missed].sum()), int(chosen.sum()))
        return True

    def _on_rollout_end(self) -> None:
        self._constraint.end_window()
        self.logger.record("constraint/multiplier", self._constraint.multiplier)
        self.logger.record("constraint/target", self._constraint.target)
        if self._constraint.miss_rate is not None:
            self.logger.record("constraint/miss_rate", self._constraint.miss_rate)
            self.logger.record("constraint/weighted_rate", self._constraint.weighted_rate)
