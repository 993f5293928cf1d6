"""How far a policy is at most from the best plan, where a lower bound says what no plan can go below."""

from __future__ import annotations

import numpy as np

from .benchmark_result import BenchmarkResult
from .policy_result import CARBON, COMPLIANT_SHARE, MET, PolicyResult
from .statistics import Estimate, PairedBootstrap


def lower_bound(result: BenchmarkResult, name: str) -> Estimate:
    """Mean of a bound over the tapes for which it exists, mg per request."""
    bound = result.bounds[name]
    kept = np.isfinite(bound)
    return PairedBootstrap(int(kept.sum()), result.seed).mean(bound[kept]) if kept.any() else Estimate(None)


def certified_gap(result: BenchmarkResult, policy: PolicyResult, name: str) -> Estimate:
    """1 - bound / carbon: no plan that meets the SLO can save more than this share of the policy's carbon.

    Over the tapes for which the bound exists and in which the policy meets the SLO, since the bound says nothing
    about what misses can buy. It does not exist for policies that do not comply.
    """
    bound, met = result.bounds[name], policy.metrics[MET] == 1.0
    kept = np.isfinite(bound) & met
    if not policy.complies or not kept.any():
        return Estimate(None)
    bootstrap = PairedBootstrap(int(kept.sum()), result.seed)
    return bootstrap.of_means(lambda b, own: 1 - b / own, bound[kept], policy.metrics[CARBON][kept])


def tightest(result: BenchmarkResult) -> str | None:
    """Name of the bound with the highest mean, if there is any."""
    means = {name: lower_bound(result, name).mean for name in result.bounds}
    known = {name: mean for name, mean in means.items() if mean is not None}
    return max(known, key=lambda name: known[name], default=None)


def certainly_infeasible(result: BenchmarkResult) -> bool:
    """Whether the bound on the latency says that no plan at all can comply."""
    if result.p95_bound_ms is None:
        return False
    above = result.p95_bound_ms > result.scenario.slo.latency_ms
    return float(above.mean()) > 1 - COMPLIANT_SHARE
