"""Who wins, in plain sentences: the learned policies against the best that needs no learning.

The rules were fixed before any result was seen. Carbon is compared among policies that comply (they meet the
SLO in 95 % of their episodes). The opponent is the cleanest complying policy that is not learned and does
not know the future. A difference is clear when its paired 95 % interval excludes zero. Who is cleaner and in clearly
fewer episodes within the SLO has bought its carbon with misses and has not won. Where nothing complies,
hindsight included, the latency at the objective's quantile is compared instead of the carbon.
"""

from __future__ import annotations

from .benchmark_result import BenchmarkResult
from .certified import certainly_infeasible, certified_gap, lower_bound, tightest
from .comparison import (
    Comparison,
    above,
    below,
    best_complying,
    best_matched,
    compare,
    comparisons,
    just_below_the_cut,
    opponent,
    unlearned,
)
from .metrics import SLO_LATENCY
from .policy_result import CARBON, COMPLIANT_SHARE, PolicyResult, SeedGroup
from .standings import against_all
from .words import amount, listed, percent, points, relative, share

__all__ = ["best_complying", "compare", "comparisons", "headline", "verdict"]


def verdict(result: BenchmarkResult) -> list[str]:
    """The verdict, one sentence or a few an entry; the first says what the others are measured by."""
    sentences = [_opponent_sentence(result)] if result.feasible else [infeasible_sentence(result)]
    for policy in result.contenders:
        sentences += _sentences(result, policy)
    sentences += [*_seeds_sentence(result), *_room_sentences(result), *_bound_sentence(result)]
    return sentences + [f"EXCLUDED: {e.name} {e.reason}." for e in result.excluded]


def headline(result: BenchmarkResult) -> tuple[str, str]:
    """The outcome in a word or three, and the sentence that says it best; for the top of a report."""
    if not result.feasible:
        return "infeasible", infeasible_sentence(result)
    against = opponent(result)
    if not result.contenders:
        return "no agent", _opponent_sentence(result)
    first = min(result.contenders, key=lambda r: (not r.complies, r.carbon_mg))
    if not first.complies:
        return "does not comply", _sentences(result, first)[0]
    if against is None:
        return "wins", _sentences(result, first)[0]
    return compare(result, first, against).outcome, _sentences(result, first)[0]


def infeasible_sentence(result: BenchmarkResult) -> str:
    """What is said first where no policy complies, hindsight included."""
    slo, best = result.scenario.slo, result.smallest_p95
    quantile = f"p{100 * slo.quantile:g}"
    reached = result.mean(best, SLO_LATENCY)
    text = (
        f"INFEASIBLE: no policy{', hindsight included,' if result.oracle else ' that was played'} meets the SLO "
        f"({quantile} <= {slo.latency_ms:g} ms) in {percent(COMPLIANT_SHARE, 0)} of the episodes. The smallest "
        f"{quantile} reached is {amount(reached)} ms ({best.name}, SLO met in {percent(best.compliance)}). "
        f"Policies are ranked by {quantile}; their carbon is shown and not compared."
    )
    if certainly_infeasible(result) and result.p95_bound_ms is not None:
        bound = result.bootstrap.mean(result.p95_bound_ms)
        text += f" No plan at all can comply: its {quantile} is at least {amount(bound)} ms."
    return text


def _opponent_sentence(result: BenchmarkResult) -> str:
    best = best_complying(result)
    if best is None:
        text = (
            f"No policy without learning complies (SLO met in {percent(COMPLIANT_SHARE, 0)} of the episodes)"
        )
        nearest = max(unlearned(result), key=lambda r: r.compliance, default=None)
        if nearest is not None:
            text += f"; the nearest is {nearest.name} with {percent(nearest.compliance)}"
        text += "."
    else:
        text = (
            f"Best complying policy without learning: {best.name}, "
            f"{amount(result.mean(best, CARBON))} mg CO2 per request, "
            f"SLO met in {share(result.share_meeting(best), 1)} of the episodes."
        )
    near = just_below_the_cut(result, COMPLIANT_SHARE)
    if near:
        told = [f"{r.name} ({percent(r.compliance)}, {r.carbon_mg:.4g} mg)" for r in near]
        text += f" Cleaner and only just below the cut of {percent(COMPLIANT_SHARE, 0)}: {listed(told)}."
    return text


def _sentences(result: BenchmarkResult, policy: PolicyResult) -> list[str]:
    against = opponent(result)
    if not result.feasible:
        return [] if against is None else [_by_latency(policy, against, compare(result, policy, against))]
    if not policy.complies:
        first = (
            f"{policy.name} DOES NOT COMPLY: it meets the SLO in {share(result.share_meeting(policy), 1)} of the "
            f"episodes, {percent(COMPLIANT_SHARE, 0)} are asked for. Its {policy.carbon_mg:.4g} mg per "
            "request do not count against policies that keep the objective."
        )
        return [first + _matched(result, policy)]
    if against is None:
        first = (
            f"{policy.name} COMPLIES, which no policy without learning does: SLO met in "
            f"{percent(policy.compliance)} of the episodes at {policy.carbon_mg:.4g} mg per request."
        )
        return [first]
    first = _against(policy, against, compare(result, policy, against))
    return [first + _matched(result, policy), against_all(result, policy)]


def _against(policy: PolicyResult, best: PolicyResult, found: Comparison) -> str:
    named = f"the best {_kind_word(best)} ({best.name})"
    word = {
        "wins": f"WINS against {named}",
        "loses": f"LOSES, {named} wins",
        "buys carbon with misses": f"BUYS CARBON WITH MISSES and does not win against {named}",
    }.get(found.outcome, f"shows NO CLEAR DIFFERENCE to {named}")
    return (
        f"{policy.name} {word}: it emits {relative(found.relative_difference)} at {_equal(found)} SLO compliance "
        f"(met in {percent(policy.compliance)} against {percent(best.compliance)} of the episodes, "
        f"{points(found.compliance_difference)}); {policy.carbon_mg:.4g} against {best.carbon_mg:.4g} mg per "
        f"request, cleaner in {share(found.probability_of_improvement)} of the episodes."
    )


def _kind_word(policy: PolicyResult) -> str:
    if policy.kind == "static":
        return "static placement"
    return "tuned rule" if policy.tuned else "rule"


def _equal(found: Comparison) -> str:
    """Equal is what lies within five points with certainty, not merely what a few tapes cannot tell apart."""
    if found.meets_less_often:
        return "LOWER"
    if found.meets_more_often:
        return "higher"
    ends = (found.compliance_difference.low, found.compliance_difference.high)
    surely = all(end is not None and abs(end) <= 1 - COMPLIANT_SHARE for end in ends)
    return "equal" if surely else "not clearly different"


def _matched(result: BenchmarkResult, policy: PolicyResult) -> str:
    """The same without a cut: against the cleanest that meets the SLO at least as often."""
    matched = best_matched(result, policy)
    if matched is None:
        return " No policy without learning meets the SLO as often as it does."
    if policy.complies and matched is best_complying(result):
        return f" {matched.name} is also the cleanest without learning that meets the SLO at least as often."
    found = compare(result, policy, matched)
    return (
        f" Against {matched.name}, the cleanest without learning that meets the SLO at least as often "
        f"({percent(matched.compliance)}), it emits {relative(found.relative_difference)}."
    )


def _by_latency(policy: PolicyResult, best: PolicyResult, found: Comparison) -> str:
    change = found.latency_difference_ms
    word = "LOWER" if below(change) else "HIGHER" if above(change) else "NOT CLEARLY DIFFERENT"
    return (
        f"{policy.name}: {policy.slo_latency_ms:.4g} ms at the objective's quantile, {word} than the smallest "
        f"without learning ({best.name}, {best.slo_latency_ms:.4g} ms), difference {amount(change)} ms; it emits "
        f"{relative(found.relative_difference)} and misses the SLO in {points(found.miss_rate_difference)} of the "
        "requests compared with it."
    )


def _seeds_sentence(result: BenchmarkResult) -> list[str]:
    """Whether the noise of training is in the intervals."""
    texts = []
    for group in result.groups:
        members = [result[name] for name in group.members]
        told = [f"{m.name} {m.carbon_mg:.4g} mg, SLO met in {percent(m.compliance)}" for m in members]
        failing = sum(not m.complies for m in members)
        alarm = f" {failing} of them DO NOT COMPLY." if failing else ""
        seeds = listed([str(s) for s in group.seeds])
        texts.append(
            f"{group.name} (training seeds {seeds}): its intervals hold the noise of training. "
            f"Seed by seed: {'; '.join(told)}.{alarm}"
        )
    single = [r.name for r in result.contenders if not isinstance(r, SeedGroup)]
    if single:
        texts.append(
            f"{listed(single)}: one training seed{' each' if len(single) > 1 else ''}, so the noise of training is "
            "not covered by these intervals. Train several seeds and give all their folders."
        )
    return texts


def _room_sentences(result: BenchmarkResult) -> list[str]:
    """What hindsight saves, and whether anything was expected."""
    reference, oracle = result.reference, result.oracle
    texts = []
    if reference is not None and oracle is not None and result.feasible:
        change = result.of_means(lambda own, r: own / r - 1, CARBON, oracle, reference)
        text = (
            f"Hindsight ({oracle.name}) emits {oracle.carbon_mg:.4g} mg, {relative(change)} than "
            f"{reference.name}, and meets the SLO in {percent(oracle.compliance)} of the episodes."
        )
        if not reference.complies:
            text += f" No static placement complies, so the gap is counted from {reference.name}."
        texts.append(text + _reached(result))
    if result.scenario.nothing_to_win is not None:
        texts.append(f"Little to win was expected here: {result.scenario.nothing_to_win}")
    return texts


def _reached(result: BenchmarkResult) -> str:
    """How much of hindsight's saving the best without learning and the learned reach, of those that comply."""
    shown = [r for r in (best_complying(result), *result.contenders) if r is not None and r.complies]
    reached = [(r.name, result.gap_closed(r)) for r in shown]
    told = [f"{name} {share(part)}" for name, part in reached if part.mean is not None]
    return f" Of that saving {'reach' if len(told) > 1 else 'reaches'} {listed(told)}." if told else ""


def _bound_sentence(result: BenchmarkResult) -> list[str]:
    """What no plan can go below, where a bound was given."""
    name, best = tightest(result), best_complying(result)
    if name is None:
        return []
    text = f"No plan that meets the SLO emits less than {amount(lower_bound(result, name))} mg per request ({name})"
    shown = [r for r in (best, *result.contenders) if r is not None and r.complies]
    gaps = [f"{r.name} at most {share(certified_gap(result, r, name), 1)}" for r in shown]
    return [text + (f"; still to be saved by {', by '.join(gaps)} of its carbon." if gaps else ".")]
