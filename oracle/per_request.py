"""Khan et al.'s per-image hindsight oracle (their section on the adaptive policy, H3).

For each request on its own it takes the placement with the lowest carbon among those that meet the SLO. It
asks the tape what each placement would give now, with the queues that its own earlier choices left, and looks
no further: it does not see that a choice delays the next request, and it never spends the misses
that a quantile objective allows. So it is a hindsight reference, not a bound: a plan over the whole episode,
or a policy that misses a few requests on purpose, can emit less.

Where no placement meets the SLO the paper says nothing (its device always met it). Here the fastest one is
taken: the request is missed anyway, and the fastest leaves the shortest queue to the next one. In the
paper's setting that is local.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario


class Previewing(Protocol):
    """What the oracle needs from the simulator."""

    scenario: Scenario

    def preview(self) -> list[Any]:
        """Outcomes that each placement would give now, the state left untouched."""
        ...


class PerRequestOracle:
    """Plays the oracle as a policy that decides from the simulator instead of the observation.

    Attributes:
        name: name in tables and JSON.
        needs_simulator: tells the rollout to call `bind` before the first decision.
    """

    name = "oracle-per-request"
    needs_simulator = True

    def __init__(self) -> None:
        """Wait for a simulator."""
        self._simulator: Previewing | None = None

    def bind(self, simulator: Previewing) -> None:
        """Take the simulator whose tape is to be read."""
        self._simulator = simulator

    def reset(self, batch: int) -> None:
        """Nothing to forget: the state lies in the simulator."""

    def decide(
        self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64] | int:
        """Choose with hindsight.

        Args:
            observation: (F,) or (B, F); only its shape is used.
            mask: allowed placements, (P,) or (B, P).

        Returns:
            An int for (F,), an int64 array (B,) for (B, F).
        """
        if self._simulator is None:
            raise RuntimeError("the oracle reads the tape: call bind(simulator) before the first decision")
        outcomes = self._simulator.preview()
        choice = cheapest_within_slo(
            carbon_mg=np.stack([np.atleast_1d(o.carbon_mg) for o in outcomes], axis=1),
            latency_ms=np.stack([np.atleast_1d(o.latency_ms) for o in outcomes], axis=1),
            allowed=np.atleast_2d(mask),
            slo_latency_ms=self._simulator.scenario.slo.latency_ms,
        )
        return int(choice[0]) if observation.ndim == 1 else choice


def cheapest_within_slo(
    carbon_mg: npt.NDArray[np.floating],
    latency_ms: npt.NDArray[np.floating],
    allowed: npt.NDArray[np.bool_],
    slo_latency_ms: float,
) -> npt.NDArray[np.int64]:
    """Lowest carbon among the allowed placements that meet the SLO; the fastest allowed where none does.

    Args:
        carbon_mg: CO2 that each placement would emit, mg (B, P).
        latency_ms: latency that it would have, ms (B, P).
        allowed: reachable placements (B, P); at least one a row.
        slo_latency_ms: the objective, ms; equal to it is met.

    Returns:
        Placements (B,); the first among equals.
    """
    meets = allowed & (latency_ms <= slo_latency_ms)
    cheapest = np.where(meets, carbon_mg, np.inf).argmin(axis=1)
    fastest = np.where(allowed, latency_ms, np.inf).argmin(axis=1)
    return np.where(meets.any(axis=1), cheapest, fastest)
