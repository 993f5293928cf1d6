"""Oracles as policies: a fixed plan, or a solver that reads the tape when the first decision is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..envs.simulator import Simulator
from ..envs.tape import Tape

Solver = Callable[[Tape], npt.NDArray[np.int64]]


class PlanPolicy:
    """Plays a plan request by request; follows `agents.policy.Policy`.

    Attributes:
        name: name in tables and JSON.
        needs_simulator: tells the rollout to call `bind` before the first decision.
        plan: the plan in play (N, B); None until it is solved.
    """

    needs_simulator = True

    def __init__(
        self, name: str, plan: npt.NDArray[np.int64] | None = None, solve: Solver | None = None
    ) -> None:
        """Take a plan (N, B), or what makes one from the tape of the bound simulator.

        Raises:
            ValueError: neither or both are given.
        """
        if (plan is None) == (solve is None):
            raise ValueError("PlanPolicy needs a plan or a solver, not both")
        self.name = name
        self._fixed, self._solve = plan, solve
        self.plan = plan
        self._simulator: Simulator | None = None
        self._request = 0

    def bind(self, simulator: Simulator) -> None:
        """Take the simulator whose tape is to be read."""
        self._simulator = simulator

    def reset(self, batch: int) -> None:
        """Start over; a solver is asked again at the first decision, because the tape may be another."""
        self._request = 0
        self.plan = self._fixed

    def decide(
        self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64] | int:
        """The plan's next placements; see `agents.policy.Policy.decide`."""
        if self.plan is None:
            if self._simulator is None or self._solve is None:
                raise RuntimeError(
                    "the oracle reads the tape: call bind(simulator) before the first decision"
                )
            self.plan = self._solve(self._simulator.tape)
        chosen = self.plan[self._request]
        self._request += 1
        return int(chosen[0]) if observation.ndim == 1 else chosen.copy()
