"""Play policies on the same tapes and estimate how they compare."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..envs.console import Progress
from ..envs.errors import CarbonPilotError, InputError
from ..envs.schema import Scenario
from ..envs.simulator import Simulator
from ..envs.tape import Part, evaluation_seeds
from ..oracle.breakeven import break_even
from ..oracle.breakeven_svg import map_svg
from .benchmark_result import LEAST_ROOM, BenchmarkResult, best_hindsight
from .metrics import episode_metrics, mean_per_episode, placement_share, share_over_time
from .observed_world import MOST, WorldWatch
from .policy_registry import Contestant, Kind, contestants, default_policies
from .policy_result import COMPLIANT_SHARE, Excluded, PolicyResult, SeedGroup
from .report_extras import Extras
from .rollout import EpisodeRecord, PolicyError, run_policy
from .rule_parameters import TunedRules, tuned_rules
from .seed_levels import read_training

__all__ = [
    "COMPLIANT_SHARE",
    "LEAST_ROOM",
    "BenchmarkResult",
    "Excluded",
    "PolicyResult",
    "SeedGroup",
    "benchmark",
    "best_hindsight",
    "break_even_extras",
    "play",
    "summarise",
]

TIME_BINS = 50
CDF_POINTS = 2001

F64 = npt.NDArray[np.float64]


def benchmark(
    scenario: Scenario,
    policies: Sequence[str] = (),
    episodes: int = 100,
    seed: int = 0,
    traces_dir: str | None = None,
    progress: Progress | None = None,
    tuned: TunedRules | None = None,
) -> BenchmarkResult:
    """Play every baseline, the oracle and the given policies on the same evaluation tapes.

    Args:
        scenario: the site.
        policies: names or folders, beside the defaults.
        episodes: number of tapes.
        seed: the tapes follow from it; another seed, other tapes.
        traces_dir: trace folder of a scenario that reads files.
        progress: called with policy name, requests done and requests in all, over all policies.
        tuned: parameters of the rules; None: those that are shipped for the scenario.

    Raises:
        InputError: a policy does not exist or does not fit; nothing has been played then.
        CarbonPilotError: every single policy failed while it was played.
    """
    if episodes < 1:
        raise InputError(f"--episodes must be at least 1, got {episodes}.")
    tuned = tuned or tuned_rules(scenario)
    defaults = default_policies(scenario, tuned)
    entries = contestants([*defaults, *policies], scenario, seed, tuned)
    asked = {e.name for e in entries if e.name in policies or e.name not in defaults}
    return play(entries, scenario, episodes, seed, traces_dir, progress, asked=asked)


def play(
    entries: Sequence[Contestant],
    scenario: Scenario,
    episodes: int,
    seed: int,
    traces_dir: str | None = None,
    progress: Progress | None = None,
    part: Part = "evaluation",
    *,
    asked: set[str] | None = None,
    bounds: Mapping[str, F64] | None = None,
    p95_bound_ms: F64 | None = None,
) -> BenchmarkResult:
    """Play policies that have been found already; see `benchmark`.

    A policy that raises, or answers with something that is no allowed placement, is left out and named with the
    reason; the others go on.

    Args:
        entries: the policies; folders of learned ones say which training seeds belong together.
        scenario, episodes, seed, traces_dir, progress: as in `benchmark`.
        part: "evaluation", or "training" for tuning.
        asked: names that the user gave, none for all of them.
        bounds: name -> lower bound of the carbon per request of any plan that meets the SLO (B,), mg.
        p95_bound_ms: lower bound of the latency at the objective's quantile (B,), ms.

    Raises:
        CarbonPilotError: no policy is left.
    """
    seeds = evaluation_seeds(seed, episodes)
    total = len(entries) * episodes * scenario.episode.requests
    done = 0

    def report(name: str, more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(name, done, total)

    preparation_s = _prepare(scenario, seeds[:1], part, traces_dir)
    results: list[PolicyResult] = []
    excluded: list[Excluded] = []
    world = None
    for i, entry in enumerate(entries, start=1):
        watch = WorldWatch(scenario) if world is None else None
        started = time.perf_counter()
        try:
            record = run_policy(
                entry.policy,
                scenario,
                seeds,
                part,
                traces_dir,
                progress=lambda more, name=entry.name: report(name, more),
                watch=watch,
            )
            results.append(summarise(entry.name, entry.kind, record, scenario, entry.policy, started))
        except PolicyError as error:
            wanted = asked is None or entry.name in asked
            excluded.append(Excluded(entry.name, entry.kind, error.reason, wanted))
            report(entry.name, i * episodes * scenario.episode.requests - done)
            continue
        if watch is not None:
            world = watch.world(entry.name, record.valid)
    if not results:
        reasons = "; ".join(f"{e.name} {e.reason}" for e in excluded)
        raise CarbonPilotError(f"No policy could be judged: {reasons}.")
    trainings = {e.name: read_training(e.folder) for e in entries if e.folder is not None}
    return BenchmarkResult(
        scenario,
        seed,
        episodes,
        part,
        tuple(results),
        tuple(excluded),
        trainings,
        dict(bounds or {}),
        p95_bound_ms,
        world,
        preparation_s,
    )


def _prepare(scenario: Scenario, seeds: npt.NDArray[np.int64], part: Part, traces_dir: str | None) -> float:
    """Draw one tape and place one request, so that no policy's time holds loading and compiling; seconds."""
    started = time.perf_counter()
    simulator = Simulator(scenario, len(seeds), part=part, traces_dir=traces_dir)
    simulator.reset(seeds)
    simulator.step(np.zeros(len(seeds), dtype=np.int64))
    return time.perf_counter() - started


def summarise(
    name: str,
    kind: Kind,
    record: EpisodeRecord,
    scenario: Scenario,
    policy: object = None,
    started: float | None = None,
) -> PolicyResult:
    """Reduce a record of every request to what tables and plots need.

    Args:
        name, kind: as in `Contestant`.
        record: of every request.
        scenario: the site.
        policy: what played; its ``tuned`` and ``note``, where it has them, are kept.
        started: `time.perf_counter` when it began to play.

    Raises:
        PolicyError: an episode's metrics are not numbers.
    """
    placements = len(scenario.placements)
    metrics = episode_metrics(record, scenario.slo)
    for extra in ("carbon_mg_marginal", "carbon_mg_attributional", "reward"):
        metrics[f"{extra}_per_request"] = mean_per_episode(getattr(record, extra), record.valid)
    unknown = [metric for metric, values in metrics.items() if np.isnan(values).any()]
    if unknown:
        raise PolicyError(name, f"led to NaN in {', '.join(unknown)}")
    bins, time_shares = share_over_time(record, placements, TIME_BINS)
    latency_ms = record.latency_ms[record.valid]
    return PolicyResult(
        name=name,
        kind=kind,
        metrics=metrics,
        shares=placement_share(record, placements),
        latency_cdf_ms=np.quantile(latency_ms, np.linspace(0, 1, CDF_POINTS)),
        time=bins,
        time_shares=time_shares,
        requests=int(record.valid.sum()),
        placement=np.where(record.valid, record.placement, -1)[:, :MOST].astype(np.int8),
        seconds=0.0 if started is None else time.perf_counter() - started,
        tuned=bool(getattr(policy, "tuned", False)),
        note=str(getattr(policy, "note", "")),
    )


def break_even_extras(scenario: Scenario, traces_dir: str | None = None) -> Extras:
    """The closed-form break-even of a scenario for the report: its conclusion and its map."""
    found = break_even(scenario, traces_dir)
    return Extras(conclusion=found.conclusion, map_svg=map_svg(found))
