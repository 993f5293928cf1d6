"""The oracles' cost: the budget problem against one argmin of the same matrix, and the coupled oracle on the flagship.

Both sides of a ratio alternate in one run and the median of the pairs' ratios counts, so that a neighbour on the
machine slows both. Run: python benchmarks/bench_oracle.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.tape import evaluation_seeds
from carbonpilot.oracle.budget import solve_budget
from carbonpilot.oracle.coupled import solve_coupled
from carbonpilot.oracle.replay import tapes_for
from carbonpilot.oracle.solvers import solve_budget_coupled, solve_per_request

REQUESTS, PAIRS = 100_000, 40
AT_MOST, AIM = 10.0, 4.0  # budget problem / argmin, the project's goal
EPISODES = 2


def main() -> None:
    """Print every figure with its goal."""
    for placements in (2, 4, 6):
        ratio, took = budget_ratio(placements)
        verdict = "ok" if ratio <= AIM else "within the limit" if ratio <= AT_MOST else "TOO SLOW"
        print(
            f"budget / argmin, {REQUESTS} x {placements}: {ratio:.1f} (at most {AT_MOST:g}, aim {AIM:g}; "
            f"{1000 * took:.1f} ms): {verdict}"
        )
    scenario = load_scenario("metro")
    tape = tapes_for(scenario, evaluation_seeds(0, EPISODES))
    solvers: dict[str, Callable[[], Any]] = {
        "oracle-per-request": lambda: solve_per_request(scenario, tape),
        "oracle-budget": lambda: solve_budget_coupled(scenario, tape),
        "oracle-coupled": lambda: solve_coupled(scenario, tape),
    }
    for name, solve in solvers.items():
        solve()  # compiles
        print(f"{name}, metro: {solve().seconds / EPISODES:.2f} s an episode of {scenario.episode.requests}")


def budget_ratio(placements: int) -> tuple[float, float]:
    """Median ratio to an argmin of the same matrix, and median seconds of the budget problem."""
    rng = np.random.default_rng(0)
    carbon = rng.gamma(2.0, 0.2, (REQUESTS, placements))
    latency = rng.gamma(6.0, 20.0, (REQUESTS, placements))
    solve_budget(carbon, latency, 150.0, 0.95)  # compiles
    ratios, seconds = [], []
    for _ in range(PAIRS):
        took = timed(lambda: solve_budget(carbon, latency, 150.0, 0.95))
        ratios.append(took / timed(lambda: carbon.argmin(axis=1)))
        seconds.append(took)
    return statistics.median(ratios), statistics.median(seconds)


def timed(function: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
