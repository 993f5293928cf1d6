"""The quantile reading of the SLO where requests do not interact: at most K of n requests may miss it.

Each request has a cheapest placement that meets the SLO and a cheapest one at all. Missing on purpose saves the
difference, so the optimum spends the K misses where they save most: a partial sort, exact and linear in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.compiling import compiled
from ..envs.errors import InputError
from .result import allowed_misses

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BudgetSolution:
    """The cheapest placements within a budget of misses.

    Attributes:
        plan: placement of each request (N,).
        carbon_mg: CO2 of all requests, mg.
        misses: requests that miss the SLO.
        allowed: misses that the quantile allows.
    """

    plan: I64
    carbon_mg: float
    misses: int
    allowed: int

    @property
    def feasible(self) -> bool:
        """Whether the budget is kept; where no plan keeps it, the plan misses as rarely as possible."""
        return self.misses <= self.allowed


def solve_budget(
    carbon_mg: npt.NDArray[np.floating],
    latency_ms: npt.NDArray[np.floating],
    slo_ms: float,
    quantile: float,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> BudgetSolution:
    """Lowest total carbon with at most n - ceil(q n) misses, exact.

    Args:
        carbon_mg: CO2 of each request at each placement, mg (N, P).
        latency_ms: latency there, ms (N, P); may be infinite.
        slo_ms: the objective; equal to it is met.
        quantile: share of the requests that must meet it, between 0 and 1.
        allowed: reachable placements (N, P), at least one a request; all where None.

    Returns:
        The plan. If more requests than the budget allows cannot meet the SLO at all, only those miss, and the
        carbon is the lowest under that.

    Raises:
        InputError: the shapes differ, a value is NaN, or a request has no reachable placement.
    """
    _check(carbon_mg, latency_ms, quantile, allowed)
    requests = len(carbon_mg)
    reachable = np.ones((1, 1), dtype=bool) if allowed is None else allowed
    keeping, saving = np.empty(requests), np.empty(requests)
    # Small numbers: what is allocated anew costs more than what is computed.
    plan, freed = np.empty(requests, dtype=np.int16), np.empty(requests, dtype=np.int16)
    lost = _cheapest(carbon_mg, latency_ms, slo_ms, reachable, keeping, plan, saving, freed)
    budget = int(allowed_misses(requests, quantile))
    missed = _largest(saving, max(budget, lost))
    plan[missed] = freed[missed]
    keeping[missed] = carbon_mg[missed, freed[missed]]
    return BudgetSolution(plan.astype(np.int64), float(keeping.sum()), len(missed), budget)


@compiled
def _cheapest(
    carbon_mg: npt.NDArray, latency_ms: npt.NDArray, slo_ms: float, reachable: npt.NDArray, keeping: F64,
    plan: npt.NDArray, saving: F64, freed: npt.NDArray,
) -> int:  # fmt: skip
    """Lowest carbon of each request within the SLO and where, where it is lowest at all, and what that saves.

    Both are infinite where nothing meets the SLO, so these misses are spent first; returns how many these are.
    One pass: with NumPy's whole-array steps the matrix is read and written a dozen times.
    """
    lost = 0
    for n in range(carbon_mg.shape[0]):
        least, free, where, anywhere = np.inf, np.inf, 0, 0
        for p in range(carbon_mg.shape[1]):
            if reachable.size == 1 or reachable[n, p]:
                value = carbon_mg[n, p]
                if value < free:
                    free, anywhere = value, p
                if value < least and latency_ms[n, p] <= slo_ms:
                    least, where = value, p
        keeping[n], saving[n], plan[n], freed[n] = least, least - free, where, anywhere
        lost += least == np.inf
    return lost


def _largest(saving: F64, count: int) -> npt.NDArray[np.intp]:
    """Positions of the ``count`` largest savings, without those that save nothing."""
    if count == 0:
        return np.empty(0, dtype=np.intp)
    if count < len(saving):
        first = np.argpartition(saving, len(saving) - count)[len(saving) - count :]
    else:
        first = np.arange(len(saving))
    return first[saving[first] > 0]


def _check(
    carbon_mg: npt.NDArray, latency_ms: npt.NDArray, quantile: float, allowed: npt.NDArray | None
) -> None:
    if carbon_mg.ndim != 2 or carbon_mg.shape != latency_ms.shape:
        raise InputError(
            "solve_budget needs carbon_mg and latency_ms of one shape (requests, placements), got "
            f"{carbon_mg.shape} and {latency_ms.shape}."
        )
    if allowed is not None and allowed.shape != carbon_mg.shape:
        raise InputError(
            f"solve_budget: allowed has shape {allowed.shape}, but carbon_mg has {carbon_mg.shape}."
        )
    if not 0 < quantile < 1:
        raise InputError(f"solve_budget: quantile must lie between 0 and 1, got {quantile}.")
    for name, values in (("carbon_mg", carbon_mg), ("latency_ms", latency_ms)):
        # A sum is NaN if a value is, or if infinities of both signs met; only then look closer.
        if np.isnan(values.sum()) and np.isnan(values).any():
            row = int(np.argwhere(np.isnan(values))[0, 0])
            raise InputError(f"solve_budget: {name} of request {row} is NaN; every value must be a number.")
    if np.isinf(carbon_mg.sum()) and np.isinf(carbon_mg).any():
        raise InputError(
            "solve_budget: carbon_mg must be finite; mark an unreachable placement in `allowed`."
        )
    if allowed is not None and not allowed.any(axis=1).all():
        row = int(np.argmin(allowed.any(axis=1)))
        raise InputError(f"solve_budget: request {row} has no reachable placement; local always is one.")
