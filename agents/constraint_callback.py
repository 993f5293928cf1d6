"""The constraint beside the learning: who missed is counted, the multiplier moves between rollouts, both are logged."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from .constraint import PidLagrangian


class ConstraintCallback(BaseCallback):
    """Feeds the controller with the requests that the policy itself has placed.

    Of a Q-learner only the environments count that never explore: misses of random placements say nothing about the
    policy, and at the start of a run, when all are random, they would drive the multiplier to its bound.
    """

    def __init__(self, constraint: PidLagrangian) -> None:
        """Take the controller."""
        super().__init__()
        self._constraint = constraint

    def _on_step(self) -> bool:
        env: Any = self.training_env
        counted = getattr(self.model, "representative", np.ones(env.num_envs, dtype=bool))
        missed = env.missed & counted
        self._constraint.count(int(missed.sum()), float(env.weights[missed].sum()), int(counted.sum()))
        return True

    def _on_rollout_end(self) -> None:
        self._constraint.end_window()
        self.logger.record("constraint/multiplier", self._constraint.multiplier)
        self.logger.record("constraint/target", self._constraint.target)
        if self._constraint.miss_rate is not None:
            self.logger.record("constraint/miss_rate", self._constraint.miss_rate)
            self.logger.record("constraint/weighted_rate", self._constraint.weighted_rate)
