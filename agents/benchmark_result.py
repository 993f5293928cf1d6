"""What a benchmark found: every policy on the same tapes, and the estimates that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError
from ..envs.schema import Scenario
from ..envs.tape import Part
from .metrics import EPISODE_METRICS
from .observed_world import ObservedWorld
from .policy_result import CARBON, COMPLIANT_SHARE, MET, Excluded, PolicyResult, SeedGroup, seed_group
from .seed_bootstrap import two_level, two_level_difference_of_shares, two_level_iqm, two_level_share
from .seed_levels import Training, siblings
from .statistics import Estimate, PairedBootstrap, difference_of_shares, wilson

# Below this share of the reference's carbon the oracle's saving is too small to divide by.
LEAST_ROOM = 0.01

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """All policies on the same tapes.

    Attributes:
        scenario: the site.
        seed: seed of tapes, random policies and resampling.
        episodes: number of tapes.
        part: the part of the world that the tapes come from.
        results: one per policy that could be judged, in the order they were asked for.
        excluded: the policies that could not, with the reason.
        trainings: learned policy -> where it comes from.
        bounds: name of a bound -> lower bound of the carbon per request of any plan that meets the SLO, per
            episode (B,), mg; not finite where it does not exist.
        p95_bound_ms: lower bound of the latency at the objective's quantile of any plan, per episode (B,).
        world: what the device saw of links and grids.
        preparation_s: seconds that loading and compiling the simulator took.

    Raises:
        InputError: a bound does not have one number per episode, or no policy is left.
    """

    scenario: Scenario
    seed: int
    episodes: int
    part: Part
    results: tuple[PolicyResult, ...]
    excluded: tuple[Excluded, ...] = ()
    trainings: Mapping[str, Training] = field(default_factory=dict)
    bounds: Mapping[str, F64] = field(default_factory=dict)
    p95_bound_ms: F64 | None = None
    world: ObservedWorld | None = None
    preparation_s: float = 0.0

    def __post_init__(self) -> None:
        """Check what came from outside."""
        if not self.results:
            raise InputError("A benchmark needs at least one policy that could be judged.")
        for name, bound in {**self.bounds, "p95": self.p95_bound_ms}.items():
            if bound is not None and np.shape(bound) != (self.episodes,):
                raise InputError(
                    f"Bound {name} has shape {np.shape(bound)}, expected one number for each of the "
                    f"{self.episodes} episodes. Was it computed with another --episodes?"
                )

    @cached_property
    def bootstrap(self) -> PairedBootstrap:
        """The resamples that every interval is made from."""
        return PairedBootstrap(self.episodes, self.seed)

    @cached_property
    def compared(self) -> dict[tuple[str, str], Any]:
        """Comparisons that were made already, see `comparison.compare`."""
        return {}

    def __getitem__(self, name: str) -> PolicyResult:
        return next(r for r in self.entries if r.name == name)

    @cached_property
    def groups(self) -> tuple[SeedGroup, ...]:
        """Learned policies that differ in their training seed only, as one entry each."""
        found = {r.name: r for r in self.results}
        known = {name: t for name, t in self.trainings.items() if name in found}
        return tuple(seed_group(g, [found[name] for name in g.members]) for g in siblings(known))

    @property
    def entries(self) -> tuple[PolicyResult, ...]:
        """Policies, then groups: everything that has a row in the table."""
        return (*self.results, *self.groups)

    @property
    def contenders(self) -> list[PolicyResult]:
        """Learned entries that get a verdict: groups, and policies that belong to none."""
        grouped = {name for group in self.groups for name in group.members}
        return [*self.groups, *(r for r in self.results if r.kind == "learned" and r.name not in grouped)]

    @property
    def seconds(self) -> dict[str, float]:
        """Policy -> seconds that playing it took."""
        return {r.name: r.seconds for r in self.results}

    @property
    def failed_asked(self) -> bool:
        """Whether a policy that was named in the call had to be excluded."""
        return any(e.asked for e in self.excluded)

    @property
    def oracle(self) -> PolicyResult | None:
        """The hindsight policy that gap and regret are measured against: the cleanest that complies.

        Where none complies, the one that complies most often; None where no oracle was played.
        """
        oracles = [r for r in self.results if r.kind == "oracle"]
        return best_hindsight(oracles, COMPLIANT_SHARE) if oracles else None

    @cached_property
    def reference(self) -> PolicyResult | None:
        """The static placement with the lowest carbon among those that comply, else the first (always-local)."""
        static = [r for r in self.results if r.kind == "static"]
        complying = [r for r in static if r.complies]
        return min(complying or static[:1], key=lambda r: r.carbon_mg, default=None)

    @property
    def feasible(self) -> bool:
        """Whether any policy, hindsight included, complies."""
        return any(r.complies for r in self.results)

    @property
    def smallest_p95(self) -> PolicyResult:
        """The policy or oracle with the smallest mean latency at the objective's quantile."""
        return min(self.results, key=lambda r: r.slo_latency_ms)

    def ranked(self) -> list[PolicyResult]:
        """Entries as the table shows them.

        Complying ones first, each part by carbon; by the objective's latency where nothing complies.
        """
        if not self.feasible:
            return sorted(self.entries, key=lambda r: r.slo_latency_ms)
        return sorted(self.entries, key=lambda r: (not r.complies, r.carbon_mg))

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Policy or group -> every metric of the JSON contract, with intervals."""
        return {r.name: self._estimates(r) for r in self.entries}

    def _estimates(self, result: PolicyResult) -> dict[str, Estimate]:
        found = {name: self.mean(result, name) for name in EPISODE_METRICS}
        found[MET] = self.share_meeting(result)
        found["oracle_gap_closed"] = self.gap_closed(result)
        found["regret_mg_per_request"] = self.regret(result)
        return found

    def of_means(
        self, statistic: Callable[..., Any], metric: str, policy: PolicyResult, *others: PolicyResult
    ) -> Estimate:
        """A function, linear in the first argument, of one metric's means of several policies."""
        shared = [other.metrics[metric] for other in others]
        if isinstance(policy, SeedGroup):
            return two_level(self.bootstrap, statistic, policy.levels[metric], *shared)
        return self.bootstrap.of_means(statistic, policy.metrics[metric], *shared)

    def mean(self, policy: PolicyResult, metric: str) -> Estimate:
        """Mean of a metric over the tapes (and seeds)."""
        return self.of_means(lambda m: m, metric, policy)

    def difference(self, policy: PolicyResult, other: PolicyResult, metric: str) -> Estimate:
        """Mean of policy - other, paired by tape."""
        return self.of_means(lambda a, b: a - b, metric, policy, other)

    def iqm(self, policy: PolicyResult, metric: str, other: PolicyResult | None = None) -> Estimate:
        """Interquartile mean over the tapes of a metric, or of its paired difference to another policy."""
        minus = 0.0 if other is None else other.metrics[metric]
        if isinstance(policy, SeedGroup):
            return two_level_iqm(self.bootstrap, policy.levels[metric] - minus)
        return self.bootstrap.iqm(policy.metrics[metric] - minus)

    def share(self, policy: PolicyResult, of: Callable[[F64], F64], metric: str) -> Estimate:
        """Share of the episodes in which ``of`` the metric is 1 (or one half)."""
        if isinstance(policy, SeedGroup):
            return two_level_share(self.bootstrap, np.stack([of(x) for x in policy.levels[metric]]))
        return wilson(of(policy.metrics[metric]))

    def share_meeting(self, policy: PolicyResult) -> Estimate:
        """Share of the episodes that meet the SLO."""
        return self.share(policy, lambda met: met, MET)

    def compliance_difference(self, policy: PolicyResult, other: PolicyResult) -> Estimate:
        """Share of the episodes that meet the SLO, policy - other, paired by tape."""
        if isinstance(policy, SeedGroup):
            return two_level_difference_of_shares(self.bootstrap, policy.levels[MET], other.metrics[MET])
        return difference_of_shares(policy.metrics[MET], other.metrics[MET])

    def regret(self, policy: PolicyResult) -> Estimate:
        """Carbon above the oracle's on the same tapes, mg; it does not exist without an oracle."""
        return Estimate(None) if self.oracle is None else self.difference(policy, self.oracle, CARBON)

    def gap_closed(self, policy: PolicyResult) -> Estimate:
        """Share of the carbon between the reference and the oracle that a policy saves.

        0 is the reference, 1 the oracle; it means something at equal compliance only. It does not exist (None)
        where the oracle saves less than 1 % of the reference's carbon, and where nothing complies.
        """
        reference, oracle = self.reference, self.oracle
        if reference is None or oracle is None or not self.feasible:
            return Estimate(None)
        if reference.carbon_mg - oracle.carbon_mg <= LEAST_ROOM * reference.carbon_mg:
            return Estimate(None)
        return self.of_means(lambda own, r, o: (r - own) / (r - o), CARBON, policy, reference, oracle)


def best_hindsight(results: Iterable[PolicyResult], share: float) -> PolicyResult:
    """The cleanest oracle that meets the SLO in ``share`` of the episodes, else the most compliant."""
    oracles = [r for r in results if r.kind == "oracle"]
    keeping = [r for r in oracles if r.compliance >= share]
    if keeping:
        return min(keeping, key=lambda r: r.carbon_mg)
    return max(oracles, key=lambda r: r.compliance)
