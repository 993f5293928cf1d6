"""One policy against another on the same tapes: carbon, and with it always the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .benchmark_result import BenchmarkResult
from .metrics import SLO_LATENCY
from .policy_result import CARBON, PolicyResult
from .statistics import Estimate, probability_of_improvement

Outcome = Literal["wins", "loses", "no clear difference", "buys carbon with misses", "does not comply"]


@dataclass(frozen=True)
class Comparison:
    """One policy against another on the same tapes.

    Attributes:
        policy, other: names.
        carbon_difference_mg: policy - other per request, mg.
        carbon_difference_iqm_mg: its interquartile mean over the tapes, mg.
        relative_difference: the difference as a share of the other's carbon; does not exist where that is zero.
        probability_of_improvement: share of the episodes in which the policy is cleaner (ties count half).
        compliance_difference: share of episodes that meet the SLO, policy - other.
        miss_rate_difference: share of requests that miss the SLO, policy - other.
        latency_difference_ms: latency at the objective's quantile, policy - other, ms.
        complies, other_complies: whether they meet the SLO often enough.
        outcome: for the policy; "does not comply" says that its carbon does not count, "buys carbon with misses"
            that it is clearly cleaner and clearly less often within the SLO.
    """

    policy: str
    other: str
    carbon_difference_mg: Estimate
    carbon_difference_iqm_mg: Estimate
    relative_difference: Estimate
    probability_of_improvement: Estimate
    compliance_difference: Estimate
    miss_rate_difference: Estimate
    latency_difference_ms: Estimate
    complies: bool
    other_complies: bool
    outcome: Outcome

    @property
    def meets_less_often(self) -> bool:
        """Whether the policy meets the SLO in clearly fewer episodes."""
        return below(self.compliance_difference)

    @property
    def meets_more_often(self) -> bool:
        """Whether the policy meets the SLO in clearly more episodes."""
        return above(self.compliance_difference)

    def as_json(self) -> dict[str, Any]:
        """Plain data, estimates in the form of the JSON contract."""
        return {k: v.as_json() if isinstance(v, Estimate) else v for k, v in self.__dict__.items()}


def below(estimate: Estimate) -> bool:
    """Whether the whole interval lies below zero; a single tape proves nothing."""
    return estimate.high is not None and estimate.high < 0


def above(estimate: Estimate) -> bool:
    """Whether the whole interval lies above zero."""
    return estimate.low is not None and estimate.low > 0


def compare(result: BenchmarkResult, policy: PolicyResult, other: PolicyResult) -> Comparison:
    """Compare two policies episode by episode; a pair is worked out once."""
    key = (policy.name, other.name)
    if key not in result.compared:
        result.compared[key] = _compare(result, policy, other)
    return result.compared[key]


def _compare(result: BenchmarkResult, policy: PolicyResult, other: PolicyResult) -> Comparison:
    difference = result.difference(policy, other, CARBON)
    compliance = result.compliance_difference(policy, other)
    return Comparison(
        policy=policy.name,
        other=other.name,
        carbon_difference_mg=difference,
        carbon_difference_iqm_mg=result.iqm(policy, CARBON, other),
        relative_difference=result.of_means(lambda a, b: a / b - 1, CARBON, policy, other),
        probability_of_improvement=improvement(result, policy, other),
        compliance_difference=compliance,
        miss_rate_difference=result.difference(policy, other, "slo_miss_rate"),
        latency_difference_ms=result.difference(policy, other, SLO_LATENCY),
        complies=policy.complies,
        other_complies=other.complies,
        outcome=_outcome(policy, difference, compliance),
    )


def improvement(result: BenchmarkResult, policy: PolicyResult, other: PolicyResult) -> Estimate:
    """Share of the episodes in which the policy is cleaner than the other one; ties count half."""
    its = other.metrics[CARBON]
    return result.share(policy, lambda own: probability_of_improvement(own, its), CARBON)


def _outcome(policy: PolicyResult, carbon: Estimate, compliance: Estimate) -> Outcome:
    if not policy.complies:
        return "does not comply"
    if below(carbon):
        return "buys carbon with misses" if below(compliance) else "wins"
    return "loses" if above(carbon) else "no clear difference"


def unlearned(result: BenchmarkResult) -> list[PolicyResult]:
    """Policies that neither learned nor know the future."""
    return [r for r in result.results if r.kind in ("static", "rule")]


def comparisons(result: BenchmarkResult) -> list[Comparison]:
    """Every learned policy, and every group of seeds, against every policy that is not learned."""
    learned = [r for r in result.entries if r.kind == "learned"]
    return [compare(result, policy, other) for policy in learned for other in unlearned(result)]


def best_complying(result: BenchmarkResult) -> PolicyResult | None:
    """The cleanest complying policy that is not learned, if any complies."""
    complying = [r for r in unlearned(result) if r.complies]
    return min(complying, key=lambda r: r.carbon_mg, default=None)


def best_matched(result: BenchmarkResult, policy: PolicyResult) -> PolicyResult | None:
    """The cleanest unlearned policy that meets the SLO at least as often as this one, if any does.

    A cut at a fixed compliance is brittle: a rule just below it would not count. This comparison has no cut.
    """
    matched = [r for r in unlearned(result) if r.compliance >= policy.compliance and r is not policy]
    return min(matched, key=lambda r: r.carbon_mg, default=None)


def opponent(result: BenchmarkResult) -> PolicyResult | None:
    """Whom the learned policies are measured against.

    The cleanest complying policy without learning; where nothing complies at all, hindsight included, the one
    with the smallest latency at the objective's quantile.
    """
    if result.feasible:
        return best_complying(result)
    return min(unlearned(result), key=lambda r: r.slo_latency_ms, default=None)


def just_below_the_cut(result: BenchmarkResult, share: float) -> list[PolicyResult]:
    """Unlearned policies that do not comply, cleaner than the best that does, whose interval reaches the cut."""
    best = best_complying(result)
    found = []
    for policy in unlearned(result):
        high = result.share_meeting(policy).high
        cleaner = best is None or policy.carbon_mg < best.carbon_mg
        if not policy.complies and cleaner and high is not None and high >= share:
            found.append(policy)
    return found
