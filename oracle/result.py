"""What a hindsight oracle hands back: a plan, its value, a bound below every plan, and the gap between the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OracleResult:
    """One oracle on a batch of episodes.

    Value and bound are CO2 per request in the scenario's account, mg. A claim that no plan can emit less needs
    ``lower_bound_mg``; ``value_mg`` only says that this much can be reached.

    Attributes:
        name: the oracle, as in tables and JSON.
        plan: placements (N, B).
        value_mg: CO2 per request of the plan, replayed in a fresh simulator (B,).
        lower_bound_mg: no plan that keeps the SLO emits less (B,); NaN where the oracle certifies nothing.
        misses: requests of the plan that miss the SLO (B,).
        allowed_misses: misses that the SLO's quantile allows (B,).
        latency_ms: the SLO's quantile of the plan's latencies (B,).
        requests: requests that were played (B,); fewer than planned where a trace ended.
        seconds: time that the oracle took for the batch.
        note: what weakens the bound here; empty where nothing does.
    """

    name: str
    plan: I64
    value_mg: F64
    lower_bound_mg: F64
    misses: I64
    allowed_misses: I64
    latency_ms: F64
    requests: I64
    seconds: float
    note: str = ""

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Whether the plan keeps the SLO's quantile (B,)."""
        return self.misses <= self.allowed_misses

    @property
    def gap(self) -> F64:
        """Share of the plan's carbon that lies above the bound (B,): 1 - bound / value, 0 where both are 0.

        NaN where there is no bound, or no plan that keeps the SLO to hold it against.
        """
        value, bound = self.value_mg, self.lower_bound_mg
        gap = np.divide(value - bound, value, out=np.zeros_like(value), where=value != 0)
        return np.where(np.isnan(bound) | ~self.feasible, np.nan, gap)


def allowed_misses(requests: npt.ArrayLike, quantile: float) -> I64:
    """Misses that the quantile allows: n - ceil(q n), the rank of `agents.metrics.latency_quantiles`."""
    n = np.asarray(requests, dtype=np.int64)
    # 0.07 x 100 is 7.000000000000001 in floating point, whose ceiling would be one rank too high.
    return n - np.maximum(np.ceil(quantile * n - 1e-9).astype(np.int64), 1)
