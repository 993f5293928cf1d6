"""Who wins, in plain sentences: the learned policies against the best that needs no learning.

The rules were fixed before any result was seen. Carbon is compared among policies that comply (they meet the
SLO in 95 % of their episodes). The opponent is the cleanest complying policy that is not learned and does
not know the future. A difference is clear when the paired 95 % interval of it excludes zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .benchmark import COMPLIANT_SHARE, BenchmarkResult, PolicyResult
from .scoreboard import percent
from .statistics import Estimate, probability_of_improvement

Outcome = Literal["wins", "loses", "no clear difference", "does not comply"]


@dataclass(frozen=True)
class Comparison:
    """One policy against another on the same tapes.

    Attributes:
        policy, other: names.
        carbon_difference_mg: policy - other per request, mg.
        relative_difference: the same as a share of the other's carbon.
        probability_of_improvement: share of the episodes in which the policy is cleaner.
        compliance_difference: share of episodes that meet the SLO, policy - other.
        other_complies: whether the other one complies.
        outcome: for the policy; "does not comply" says that its carbon does not count.
    """

    policy: str
    other: str
    carbon_difference_mg: Estimate
    relative_difference: Estimate
    probability_of_improvement: Estimate
    compliance_difference: Estimate
    other_complies: bool
    outcome: Outcome

    def as_json(self) -> dict[str, Any]:
        """Plain data, estimates in the form of the JSON contract."""
        return {k: v.as_json() if isinstance(v, Estimate) else v for k, v in self.__dict__.items()}


def compare(result: BenchmarkResult, policy: PolicyResult, other: PolicyResult) -> Comparison:
    """Compare two policies episode by episode."""
    own, its = (r.metrics["carbon_mg_per_request"] for r in (policy, other))
    bootstrap = result.bootstrap
    difference = bootstrap.difference(own, its)
    return Comparison(
        policy=policy.name,
        other=other.name,
        carbon_difference_mg=difference,
        relative_difference=bootstrap.of_means(lambda a, b: a / b - 1, own, its),
        probability_of_improvement=bootstrap.mean(probability_of_improvement(own, its)),
        compliance_difference=bootstrap.difference(
            policy.metrics["episodes_meeting_slo"], other.metrics["episodes_meeting_slo"]
        ),
        other_complies=other.complies,
        outcome=_outcome(policy, difference),
    )


def _outcome(policy: PolicyResult, difference: Estimate) -> Outcome:
    if not policy.complies:
        return "does not comply"
    if difference.low is None or difference.high is None:
        return "no clear difference"  # a single tape proves nothing
    if difference.high < 0:
        return "wins"
    return "loses" if difference.low > 0 else "no clear difference"


def unlearned(result: BenchmarkResult) -> list[PolicyResult]:
    """Policies that neither learned nor know the future."""
    return [r for r in result.results if r.kind in ("static", "rule")]


def comparisons(result: BenchmarkResult) -> list[Comparison]:
    """Every learned policy against every one that is not learned."""
    learned = [r for r in result.results if r.kind == "learned"]
    return [compare(result, policy, other) for policy in learned for other in unlearned(result)]


def best_complying(result: BenchmarkResult) -> PolicyResult | None:
    """The cleanest complying policy that is not learned, if any complies."""
    complying = [r for r in unlearned(result) if r.complies]
    return min(complying, key=lambda r: r.carbon_mg, default=None)


def verdict(result: BenchmarkResult) -> list[str]:
    """The verdict, one sentence or two an entry."""
    learned = [r for r in result.results if r.kind == "learned"]
    sentences = [_opponent_sentence(result)]
    for policy in learned:
        sentences += _sentences(result, policy)
    sentences.append(_room_sentence(result))
    return sentences


def _opponent_sentence(result: BenchmarkResult) -> str:
    best = best_complying(result)
    if best is None:
        nearest = max(unlearned(result), key=lambda r: r.compliance)
        return (
            f"No policy without learning complies (SLO met in {percent(COMPLIANT_SHARE, 0)} of the "
            f"episodes or more); the nearest is {nearest.name} with {percent(nearest.compliance)}."
        )
    return (
        f"Best complying policy without learning: {best.name}, {best.carbon_mg:.4g} mg CO2 per request, "
        f"SLO met in {percent(best.compliance)} of the episodes."
    )


def _sentences(result: BenchmarkResult, policy: PolicyResult) -> list[str]:
    if not policy.complies:
        return [
            f"{policy.name} DOES NOT COMPLY: it meets the SLO in {percent(policy.compliance)} of the "
            f"episodes, {percent(COMPLIANT_SHARE, 0)} are asked for. Its {policy.carbon_mg:.4g} mg per "
            "request do not count against policies that keep the objective."
        ]
    best = best_complying(result)
    if best is not None:
        first = _against(policy, best, compare(result, policy, best))
    else:
        first = (
            f"{policy.name} COMPLIES, which no policy without learning does: SLO met in "
            f"{percent(policy.compliance)} of the episodes at {policy.carbon_mg:.4g} mg per request."
        )
    return [first, _against_all(result, policy)]


def _against(policy: PolicyResult, best: PolicyResult, found: Comparison) -> str:
    word = {"wins": "WINS against", "loses": "LOSES to"}.get(found.outcome, "shows NO CLEAR DIFFERENCE to")
    text = (
        f"{policy.name} {word} {best.name}: {policy.carbon_mg:.4g} against {best.carbon_mg:.4g} mg per "
        f"request, {_relative(found.relative_difference)}; cleaner in "
        f"{percent(found.probability_of_improvement.mean, 0)} of the episodes. "
        f"SLO met in {percent(policy.compliance)} against {percent(best.compliance)} of them."
    )
    fewer = found.compliance_difference.high
    if fewer is not None and fewer < 0:
        text += " That is clearly fewer: a part of its carbon is paid for with misses."
    return text


def _relative(change: Estimate) -> str:
    """'12.0 % less (95 % interval 9.8 to 14.1 % less)' or its opposite."""
    if change.mean is None:
        return "no ratio"
    sign, word = (-1, "less") if change.mean <= 0 else (1, "more")
    text = f"{percent(sign * change.mean)} {word}"
    if change.low is None or change.high is None:
        return text + " (one tape, no interval)"
    low, high = sorted((sign * change.low, sign * change.high))
    return f"{text} (95 % interval {percent(low)} to {percent(high)} {word})"


# How a complying policy stands against another -> how the sentence says it.
STANDINGS = {
    "wins": "clearly cleaner than",
    "no clear difference": "not clearly different from",
    "loses": "clearly dirtier than",
    "dominates": "clearly cleaner and more often within the SLO than (these do not comply)",
    "beyond comparison": "beyond comparison, because they do not comply and are not clearly dirtier:",
}


def standing(found: Comparison) -> str:
    """How a complying policy stands against another one, a key of ``STANDINGS``."""
    if found.other_complies:
        return found.outcome
    return "dominates" if found.outcome == "wins" else "beyond comparison"


def _against_all(result: BenchmarkResult, policy: PolicyResult) -> str:
    """How it stands against each of the others, at equal compliance where there is any."""
    standings = {other.name: standing(compare(result, policy, other)) for other in unlearned(result)}
    parts = []
    for key, phrase in STANDINGS.items():
        names = [name for name, found in standings.items() if found == key]
        if names:
            parts.append(f"{phrase} {', '.join(names)}")
    return f"{policy.name} against all others without learning: {'; '.join(parts)}."


def _room_sentence(result: BenchmarkResult) -> str:
    reference, oracle = result.reference, result.oracle
    change = oracle.carbon_mg / reference.carbon_mg - 1 if reference.carbon_mg else 0.0
    text = (
        f"Hindsight ({oracle.name}) emits {oracle.carbon_mg:.4g} mg, "
        f"{percent(abs(change))} {'less' if change <= 0 else 'more'} than {reference.name}, and meets "
        f"the SLO in {percent(oracle.compliance)} of the episodes."
    )
    if not reference.complies:
        text += f" No static placement complies, so the gap is counted from {reference.name}."
    if result.scenario.nothing_to_win is not None:
        text += f" Little to win was expected here: {result.scenario.nothing_to_win}"
    return text
