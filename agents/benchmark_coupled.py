"""What only a search over the whole tape can say of a benchmark: the coupled oracle, its bound, the least p95."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ..envs.tape import Tape, evaluation_seeds
from ..oracle.coupled import COUPLED, smallest_reachable, solve_coupled
from ..oracle.plan_policy import PlanPolicy
from ..oracle.replay import tapes_for
from .benchmark import Progress, summarise
from .benchmark_result import BenchmarkResult
from .rollout import run_policy


def add_coupled(
    result: BenchmarkResult, traces_dir: str | None = None, progress: Progress | None = None
) -> BenchmarkResult:
    """Add the coupled oracle and its certified bound to a benchmark that has been played.

    The plans that the policies played are where its search starts, so none of them that keeps the SLO is cleaner on any
    tape (for up to 256 tapes, whose plans are kept).

    Args:
        result: the benchmark.
        traces_dir: trace folder of a scenario that reads files.
        progress: called with the oracle's name, tapes done and tapes in all.
    """
    scenario, episodes = result.scenario, result.episodes
    done = 0

    def tick(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(COUPLED, done, episodes)

    tape = _tape(result, traces_dir)
    began = time.perf_counter()
    played = [r.placement for r in result.results if r.placement is not None]
    incumbents = [np.maximum(p, 0).astype(np.int64) for p in played if p.shape[1] == episodes]
    solved = solve_coupled(scenario, tape, incumbents, progress=tick)
    policy = PlanPolicy(COUPLED, solved.plan)
    seeds = evaluation_seeds(result.seed, episodes)
    record = run_policy(policy, scenario, seeds, result.part, traces_dir, batch=episodes)
    entry = summarise(COUPLED, "oracle", record, scenario, policy, began)
    others = tuple(r for r in result.results if r.name != COUPLED)
    return replace(
        result,
        results=(*others, entry),
        bounds={**result.bounds, COUPLED: solved.lower_bound_mg},
    )


def add_reachable(result: BenchmarkResult, traces_dir: str | None = None) -> BenchmarkResult:
    """Add a lower bound of the SLO's latency quantile where no policy complies; else nothing changes."""
    if result.feasible:
        return result
    reachable = smallest_reachable(result.scenario, _tape(result, traces_dir))
    return replace(result, p95_bound_ms=reachable.bound_ms)


def _tape(result: BenchmarkResult, traces_dir: str | None) -> Tape:
    seeds = evaluation_seeds(result.seed, result.episodes)
    return tapes_for(result.scenario, seeds, result.part, traces_dir)
