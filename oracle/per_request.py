"""Khan et al.'s per-image hindsight oracle (their section on the adaptive policy, H3).

For each request on its own it takes the placement with the lowest carbon among those that meet the SLO. It
asks the tape what each placement would give now, with the queues that its own earlier choices left, and looks
no further: it does not see that a choice delays the next request, and it never spends the misses
that a quantile objective allows. So it is a hindsight reference, not a bound: a plan over the whole episode,
or a policy that misses a few requests on purpose, can emit less.

Its worst blindness is the radio: the first offload pays for the whole tail (several joules), the next ones
for next to nothing, so on a clean remote grid it may stay local for ever. `oracle-warm-radio` is the same
oracle that leaves the radio's energy out of its choice (never out of its score), as if the radio were awake
anyway. Which of the two is better depends on the site; both are hindsight, so the better one may be taken.

Where no placement meets the SLO the paper says nothing (its device always met it). Here the fastest one is
taken: the request is missed anyway, and the fastest leaves the shortest queue to the next one. In the
paper's setting that is local.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario

PER_REQUEST = "oracle-per-request"
WARM_RADIO = "oracle-warm-radio"


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

    needs_simulator = True

    def __init__(self, count_radio: bool = True) -> None:
        """Wait for a simulator.

        Args:
            count_radio: whether the radio's energy counts in the choice; Khan et al.'s oracle counts it all.
        """
        self.name = PER_REQUEST if count_radio else WARM_RADIO
        self._count_radio = count_radio
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
            carbon_mg=_columns([o.carbon_mg - self._left_out_mg(o, outcomes[0]) for o in outcomes]),
            latency_ms=_columns([o.latency_ms for o in outcomes]),
            allowed=np.atleast_2d(mask),
            slo_latency_ms=self._simulator.scenario.slo.latency_ms,
        )
        return int(choice[0]) if observation.ndim == 1 else choice

    def _left_out_mg(self, outcome: Any, local: Any) -> Any:
        """Carbon of an outcome that does not count in the choice, mg."""
        if self._count_radio:
            return 0.0
        # All energy of a local request is drawn from the device's grid, so it tells that grid's mg per joule.
        energy_j = np.asarray(local.energy_j_marginal)
        mg_per_j = np.divide(
            local.carbon_mg_marginal, energy_j, out=np.zeros_like(energy_j), where=energy_j > 0
        )
        return outcome.radio_energy_j * mg_per_j


def _columns(values: list[Any]) -> npt.NDArray[np.float64]:
    """One value or array (B,) per placement as a matrix (B, P)."""
    return np.stack([np.atleast_1d(v) for v in values], axis=1)


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
