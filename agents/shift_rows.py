"""What a shift report keeps of each policy in each case: how often it keeps the objective, and at what carbon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.errors import CarbonPilotError
from ..envs.schema import Scenario
from .benchmark_result import BenchmarkResult
from .policy_result import CARBON, MET, PolicyResult, SeedGroup, seed_group
from .seed_bootstrap import two_level, two_level_share
from .seed_levels import Siblings, siblings
from .shield import SHIELDED_END
from .shift_cases import ShiftCase
from .statistics import Estimate, PairedBootstrap, wilson

# Both fixed by the project before any result was seen.
LEAST_KEPT = 0.95  # of the episodes that hindsight keeps
MOST_DIRTIER = 0.02  # carbon above the safe rule's

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShiftRow:
    """One policy in one case, over the episodes that hindsight keeps.

    Attributes:
        name, kind: as in `Contestant`, or of a group of training seeds.
        asked: whether the call named it; the limits are for those only.
        kept: share of those episodes in which it meets the SLO.
        carbon_mg: CO2 per request, mg.
        against_safe: carbon over the safe rule's, minus one, paired by tape; does not exist for the safe rule.
        members: policies of a group; empty for a single one.
    """

    name: str
    kind: str
    asked: bool
    kept: Estimate
    carbon_mg: Estimate
    against_safe: Estimate
    members: tuple[str, ...] = ()

    @property
    def shielded(self) -> bool:
        """Whether it played under the shield, as a deployed policy does."""
        return self.name.endswith(SHIELDED_END)

    @property
    def keeps(self) -> bool:
        """Whether it meets the SLO in enough of the episodes that hindsight keeps."""
        return self.kept.mean is not None and self.kept.mean >= LEAST_KEPT

    @property
    def clean(self) -> bool:
        """Whether it is not much dirtier than the safe rule; the safe rule itself is not."""
        return self.against_safe.mean is None or self.against_safe.mean <= MOST_DIRTIER


@dataclass(frozen=True)
class CaseResult:
    """What one shift did.

    Attributes:
        case: the shift.
        scenario: the site after it; None where it does not apply.
        feasible: episodes in which hindsight keeps the objective.
        rows: hindsight, always-local, the safe rule, then what was asked for.
        excluded: names of policies that failed, with the reason.
        skipped: why the shift does not apply, or nothing can be said; else empty.
    """

    case: ShiftCase
    scenario: Scenario | None
    feasible: int
    rows: tuple[ShiftRow, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    skipped: str = ""

    def row(self, name: str) -> ShiftRow | None:
        """The row of this name, if there is one."""
        return next((row for row in self.rows if row.name == name), None)


def safest(played: BenchmarkResult, rules: Iterable[str], feasible: Bools) -> str:
    """The cleanest rule that keeps the objective often enough, else the one that keeps it most often.

    Raises:
        CarbonPilotError: none could be played.
    """
    found = [r for r in played.results if r.name in set(rules)]
    if not found:
        raise CarbonPilotError("No rule could be played, so there is nothing to compare with.")
    if not feasible.any():
        return found[0].name
    keeping = [r for r in found if r.metrics[MET][feasible].mean() >= LEAST_KEPT]
    if keeping:
        return min(keeping, key=lambda r: r.metrics[CARBON][feasible].mean()).name
    return max(found, key=lambda r: r.metrics[MET][feasible].mean()).name


def judge(
    case: ShiftCase, site: Scenario, played: BenchmarkResult, feasible: Bools, shown: set[str], asked: set[str],
    safe: str,
) -> CaseResult:  # fmt: skip
    """The rows of a case.

    Args:
        case, site: the shift, and the scenario after it.
        played: policies on the site's tapes.
        feasible: whether hindsight keeps the objective (B,).
        shown: names that get a row; others were candidates for the safe rule.
        asked: names of those that the call named.
        safe: name of the safe rule.
    """
    excluded = tuple((e.name, e.reason) for e in played.excluded)
    count = int(feasible.sum())
    if count == 0:
        nothing = "hindsight keeps the objective in no episode, so nothing can be asked of a policy"
        return CaseResult(case, site, 0, excluded=excluded, skipped=nothing)
    bootstrap = PairedBootstrap(count, played.seed)
    other = next((r for r in played.results if r.name == safe), None)
    rows = [
        _row(bootstrap, policy, other, feasible, bool(asked.intersection(members)))
        for policy, members in _grouped(played)
        if shown.intersection(members)
    ]
    order = {"oracle": 0, "static": 1}
    rows.sort(key=lambda row: 2 if row.name == safe else 3 if row.asked else order.get(row.kind, 4))
    return CaseResult(case, site, count, tuple(rows), excluded)


def _grouped(played: BenchmarkResult) -> list[tuple[PolicyResult, tuple[str, ...]]]:
    """Every policy with its name, and those that differ in their training seed only as one, shielded ones apart."""
    found = {r.name: r for r in played.results}
    groups: list[tuple[PolicyResult, tuple[str, ...]]] = []
    for ends in (False, True):
        known = {n: t for n, t in played.trainings.items() if n in found and n.endswith(SHIELDED_END) == ends}
        for group in siblings(known):
            named = Siblings(group.name + SHIELDED_END, group.members, group.seeds) if ends else group
            groups.append((seed_group(named, [found[n] for n in group.members]), group.members))
    grouped = {name for _, members in groups for name in members}
    return [*((r, (r.name,)) for r in played.results if r.name not in grouped), *groups]


def _row(
    bootstrap: PairedBootstrap, policy: PolicyResult, safe: PolicyResult | None, feasible: Bools, asked: bool
) -> ShiftRow:
    """Estimates over the episodes that hindsight keeps, and over the training seeds of a group."""
    group = policy if isinstance(policy, SeedGroup) else None

    def of_carbon(statistic: Callable[..., Any], *others: npt.NDArray) -> Estimate:
        if group is not None:
            return two_level(bootstrap, statistic, group.levels[CARBON][:, feasible], *others)
        return bootstrap.of_means(statistic, policy.metrics[CARBON][feasible], *others)

    return ShiftRow(
        name=policy.name,
        kind=policy.kind,
        asked=asked,
        kept=wilson(policy.metrics[MET][feasible])
        if group is None
        else two_level_share(bootstrap, group.levels[MET][:, feasible]),
        carbon_mg=of_carbon(lambda m: m),
        against_safe=Estimate(None)
        if safe is None or safe is policy
        else of_carbon(lambda own, other: own / other - 1, safe.metrics[CARBON][feasible]),
        members=() if group is None else group.members,
    )
