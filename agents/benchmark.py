"""Play policies on the same tapes and estimate how they compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError
from ..envs.schema import Scenario
from ..envs.tape import Part
from .metrics import EPISODE_METRICS, episode_metrics, mean_per_episode, placement_share, share_over_time
from .policy_registry import Contestant, Kind, contestants, default_policies
from .rollout import EpisodeRecord, evaluation_seeds, run_policy
from .statistics import Estimate, PairedBootstrap, wilson

# Fixed before any result was seen: a policy complies when it meets the SLO in this share of its episodes.
# Carbon is compared among complying policies only; whoever misses more can always be cleaner.
COMPLIANT_SHARE = 0.95
# Below this share of the reference's carbon the oracle's saving is too small to divide by.
LEAST_ROOM = 0.01
TIME_BINS = 50
CDF_POINTS = 2001

F64 = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PolicyResult:
    """One policy on all tapes.

    Attributes:
        name, kind: as in `Contestant`.
        metrics: per episode, name -> (B,).
        shares: share of each placement per episode (P, B).
        latency_cdf_ms: latencies at evenly spaced quantiles from 0 to 1, over all requests, ms.
        time, time_shares: placements over the course of the episode, see `share_over_time`.
        requests: requests that were played.
    """

    name: str
    kind: Kind
    metrics: dict[str, F64]
    shares: F64
    latency_cdf_ms: F64
    time: F64
    time_shares: F64
    requests: int

    @property
    def compliance(self) -> float:
        """Share of the episodes that meet the SLO."""
        return float(self.metrics["episodes_meeting_slo"].mean())

    @property
    def complies(self) -> bool:
        """Whether it meets the SLO often enough for its carbon to count."""
        return self.compliance >= COMPLIANT_SHARE

    @property
    def carbon_mg(self) -> float:
        """Mean CO2 per request, mg."""
        return float(self.metrics["carbon_mg_per_request"].mean())


@dataclass(frozen=True)
class BenchmarkResult:
    """All policies on the same tapes.

    Attributes:
        scenario: the site.
        seed: seed of tapes, random policies and resampling.
        episodes: number of tapes.
        part: the part of the world that the tapes come from.
        results: one per policy, in the order they were asked for.
    """

    scenario: Scenario
    seed: int
    episodes: int
    part: Part
    results: tuple[PolicyResult, ...]

    @cached_property
    def bootstrap(self) -> PairedBootstrap:
        """The resamples that every interval is made from."""
        return PairedBootstrap(self.episodes, self.seed)

    def __getitem__(self, name: str) -> PolicyResult:
        return next(r for r in self.results if r.name == name)

    @property
    def oracle(self) -> PolicyResult:
        """The hindsight policy that gap and regret are measured against: the cleanest that complies.

        Where none complies, the one that complies most often.
        """
        return best_hindsight(self.results, COMPLIANT_SHARE)

    @cached_property
    def reference(self) -> PolicyResult:
        """The static placement with the lowest carbon among those that comply, else always-local."""
        static = [r for r in self.results if r.kind == "static"]
        return min((r for r in static if r.complies), key=lambda r: r.carbon_mg, default=static[0])

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Policy -> every metric of the JSON contract, with intervals over the tapes."""
        return {r.name: self._estimates(r) for r in self.results}

    def _estimates(self, result: PolicyResult) -> dict[str, Estimate]:
        found = {name: self.bootstrap.mean(result.metrics[name]) for name in EPISODE_METRICS}
        found["episodes_meeting_slo"] = wilson(result.metrics["episodes_meeting_slo"])
        found["oracle_gap_closed"] = self.gap_closed(result)
        found["regret_mg_per_request"] = self.bootstrap.difference(
            result.metrics["carbon_mg_per_request"], self.oracle.metrics["carbon_mg_per_request"]
        )
        return found

    def gap_closed(self, result: PolicyResult) -> Estimate:
        """Share of the carbon between the reference and the oracle that a policy saves.

        0 is the reference, 1 the oracle; it means something at equal compliance only. It does not exist
        (None) where the oracle saves less than 1 % of the reference's carbon.
        """
        if self.reference.carbon_mg - self.oracle.carbon_mg < LEAST_ROOM * self.reference.carbon_mg:
            return Estimate(None)
        return self.bootstrap.of_means(
            lambda reference, oracle, own: (reference - own) / (reference - oracle),
            *(r.metrics["carbon_mg_per_request"] for r in (self.reference, self.oracle, result)),
        )


def best_hindsight(results: Iterable[PolicyResult], share: float) -> PolicyResult:
    """The cleanest oracle that meets the SLO in ``share`` of the episodes, else the most compliant."""
    oracles = [r for r in results if r.kind == "oracle"]
    keeping = [r for r in oracles if r.compliance >= share]
    if keeping:
        return min(keeping, key=lambda r: r.carbon_mg)
    return max(oracles, key=lambda r: r.compliance)


def benchmark(
    scenario: Scenario,
    policies: Sequence[str] = (),
    episodes: int = 100,
    seed: int = 0,
    traces_dir: str | None = None,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Play every baseline, the oracle and the given policies on the same evaluation tapes.

    Args:
        scenario: the site.
        policies: names or folders, beside the defaults.
        episodes: number of tapes.
        seed: the tapes follow from it; another seed, other tapes.
        traces_dir: trace folder of a scenario that reads files.
        progress: called with policy name, requests done and requests in all, over all policies.

    Raises:
        InputError: a policy does not exist or does not fit; nothing has been played then.
    """
    if episodes < 1:
        raise InputError(f"--episodes must be at least 1, got {episodes}.")
    entries = contestants([*default_policies(scenario), *policies], scenario, seed)
    return play(entries, scenario, episodes, seed, traces_dir, progress)


def play(
    entries: Sequence[Contestant],
    scenario: Scenario,
    episodes: int,
    seed: int,
    traces_dir: str | None = None,
    progress: Progress | None = None,
    part: Part = "evaluation",
) -> BenchmarkResult:
    """Play policies that have been found already; see `benchmark`."""
    seeds = evaluation_seeds(seed, episodes)
    total = len(entries) * episodes * scenario.episode.requests
    done = 0

    def report(name: str, more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(name, done, total)

    results = []
    for entry in entries:
        record = run_policy(
            entry.policy,
            scenario,
            seeds,
            part,
            traces_dir,
            progress=lambda more, name=entry.name: report(name, more),
        )
        results.append(summarise(entry.name, entry.kind, record, scenario))
    return BenchmarkResult(scenario, seed, episodes, part, tuple(results))


def summarise(name: str, kind: Kind, record: EpisodeRecord, scenario: Scenario) -> PolicyResult:
    """Reduce a record of every request to what tables and plots need."""
    placements = len(scenario.placements)
    metrics = episode_metrics(record, scenario.slo)
    for extra in ("carbon_mg_marginal", "carbon_mg_attributional", "reward"):
        metrics[f"{extra}_per_request"] = mean_per_episode(getattr(record, extra), record.valid)
    time, time_shares = share_over_time(record, placements, TIME_BINS)
    latency_ms = record.latency_ms[record.valid]
    return PolicyResult(
        name=name,
        kind=kind,
        metrics=metrics,
        shares=placement_share(record, placements),
        latency_cdf_ms=np.quantile(latency_ms, np.linspace(0, 1, CDF_POINTS)),
        time=time,
        time_shares=time_shares,
        requests=int(record.valid.sum()),
    )
