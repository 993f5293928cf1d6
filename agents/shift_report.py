"""The shift report: policies beside the safe rule where the world is not what they were made for.

Every case is played on tapes of the same seeds. Compliance and carbon are judged on the episodes in which hindsight
keeps the objective; where it cannot be kept, nothing is to be learned of a policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..envs.console import Progress, part_of
from ..envs.errors import CarbonPilotError, InputError, unknown_name
from ..envs.schema import Scenario
from ..oracle.solvers import BUDGET
from .benchmark import play
from .benchmark_result import BenchmarkResult
from .policy_registry import SHIELD_END, Contestant, contestants
from .policy_result import MET
from .rule_parameters import RULE_NAMES, TunedRules, tuned_rules
from .shield import SHIELDED_END, ShieldedPolicy
from .shift_cases import CASES, UNCHANGED, ShiftCase
from .shift_rows import CaseResult, ShiftRow, judge, safest

LOCAL = "always-local"


@dataclass(frozen=True)
class ShiftReport:
    """All cases of one scenario.

    Attributes:
        scenario: the site as it is described.
        episodes, seed: tapes of each case.
        safe: name of the safe rule.
        cases: what happened.
    """

    scenario: Scenario
    episodes: int
    seed: int
    safe: str
    cases: tuple[CaseResult, ...]

    @property
    def deployed(self) -> list[tuple[CaseResult, ShiftRow]]:
        """What the limits are for: every policy that was asked for, under the shield, in every case."""
        return [(case, row) for case in self.cases for row in case.rows if row.asked and row.shielded]

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Policies that raised or answered nonsense, with the reason."""
        return list(dict.fromkeys(pair for case in self.cases for pair in case.excluded))

    @property
    def holds(self) -> bool:
        """Whether nothing failed and all that is deployed stays within both limits."""
        return not self.failed and all(row.keeps and row.clean for _, row in self.deployed)


def shift_report(
    scenario: Scenario,
    policies: Sequence[str] = (),
    episodes: int = 100,
    seed: int = 0,
    traces_dir: str | None = None,
    progress: Progress | None = None,
    tuned: TunedRules | None = None,
    safe: str | None = None,
    only: Sequence[str] = (),
) -> ShiftReport:
    """Play policies, with and without the shield, under every shift.

    Args:
        scenario: the site as it is described; policies are made for it and never hear of the shift.
        policies: names or folders, beside the safe rule.
        episodes, seed, traces_dir, progress, tuned: as in `benchmark.benchmark`.
        safe: the rule that is compared with, played under the shield; None: of all tuned rules under the shield the
            cleanest that keeps the SLO in 95 % of the unchanged site's episodes. That it is picked on these very tapes
            favours it, never the others.
        only: names of cases, beside the unchanged site; all where empty.

    Raises:
        InputError: a policy or case does not exist or does not fit, or there is no episode.
        CarbonPilotError: hindsight or every rule failed.
    """
    if episodes < 1:
        raise InputError(f"--episodes must be at least 1, got {episodes}.")
    cases, tuned = _cases(only), tuned or tuned_rules(scenario)
    asked = _with_shield(contestants(policies, scenario, seed, tuned), scenario)
    names = RULE_NAMES if safe is None else (safe.removesuffix(SHIELD_END),)
    rules = [e for e in _with_shield(contestants(names, scenario, seed, tuned), scenario) if _is_shielded(e)]
    always = contestants([LOCAL], scenario, seed, tuned)
    chosen: Contestant | None = None
    results: list[CaseResult] = []
    for number, case in enumerate(cases):
        why = case.does_not_apply(scenario)
        if why:
            results.append(CaseResult(case, None, 0, skipped=f"does not apply: {why}"))
            continue
        site = case.of(scenario)
        entries = _once([*always, *(rules if chosen is None else [chosen]), *asked])
        report = part_of(progress, number, len(cases))
        played = _play(site, entries, episodes, seed, traces_dir, report)
        feasible = played[BUDGET].metrics[MET] == 1.0
        if chosen is None:
            name = safest(played, [e.name for e in rules], feasible)
            chosen = next(e for e in rules if e.name == name)
        named = {e.name for e in asked}
        shown = {BUDGET, LOCAL, chosen.name, *named}
        results.append(judge(case, site, played, feasible, shown, named, chosen.name))
    assert chosen is not None  # the unchanged site comes first and always applies
    return ShiftReport(scenario, episodes, seed, chosen.name, tuple(results))


def _cases(only: Sequence[str]) -> list[ShiftCase]:
    known = {case.name: case for case in CASES}
    for name in only:
        if name not in known:
            raise unknown_name("shift", name, known)
    return [case for case in CASES if not only or case.name in only or case.name == UNCHANGED]


def _is_shielded(entry: Contestant) -> bool:
    return isinstance(entry.policy, ShieldedPolicy)


def _with_shield(entries: list[Contestant], scenario: Scenario) -> list[Contestant]:
    """Each policy as it is and under the shield; what was asked for under the shield only stays so."""
    both: list[Contestant] = []
    for entry in entries:
        if entry.kind == "oracle":
            raise InputError(
                f"{entry.name} is hindsight; the report plays {BUDGET} by itself. Leave it out of --policy."
            )
        both.append(entry)
        if not _is_shielded(entry):
            shielded = ShieldedPolicy(entry.policy, scenario)
            both.append(replace(entry, name=entry.name + SHIELDED_END, policy=shielded))
    return both


def _once(entries: list[Contestant]) -> list[Contestant]:
    return list({entry.name: entry for entry in entries}.values())


def _play(
    site: Scenario, entries: list[Contestant], episodes: int, seed: int, traces_dir: str | None,
    progress: Progress | None,
) -> BenchmarkResult:  # fmt: skip
    """Policies that were made for the unchanged site, and hindsight that knows this one, on this one's tapes."""
    result = play([*contestants([BUDGET], site), *entries], site, episodes, seed, traces_dir, progress)
    if BUDGET not in {r.name for r in result.results}:
        raise CarbonPilotError(f"Hindsight ({BUDGET}) failed, so nothing can be judged.")
    return result
