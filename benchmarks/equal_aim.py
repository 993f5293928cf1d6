"""Agents, risk heads and the tuned rule, all made for the same share of episodes within the SLO, on the same tapes.

A policy that may break the objective more often emits less, so carbon says little where compliance differs: rules and
prices are searched at 97 % as they are shipped, agents are taught at 99. This compares them at the agents' aim
(docs/teaching.md, "At the same aim"): give a rule that was tuned for it, and heads whose price was searched for it.

Run: python benchmarks/equal_aim.py metro --tuned rule-99.yaml --agents RUN ... --heads HEAD ... --episodes 1000
"""

from __future__ import annotations

import argparse
from pathlib import Path

from carbonpilot.agents.benchmark import benchmark
from carbonpilot.agents.benchmark_result import BenchmarkResult
from carbonpilot.agents.comparison import compare
from carbonpilot.agents.policy_result import CARBON, MET, SeedGroup
from carbonpilot.agents.rule_parameters import tuned_rules
from carbonpilot.agents.seed_levels import read_training, siblings
from carbonpilot.agents.sweep.report_heads import difference
from carbonpilot.agents.words import amount, points, relative, share
from carbonpilot.envs.scenario import load_scenario

RULE = "slo-predictive-budget"


def main() -> None:
    """Play everything and print rows and paired differences."""
    a = _arguments()
    site = load_scenario(a.scenario)
    tuned = tuned_rules(site, a.tuned)
    result = benchmark(site, [*a.agents, *a.heads], a.episodes, a.seed, tuned=tuned)
    rule, agents, heads = result[RULE], _seeds(result, a.agents), _seeds(result, a.heads)
    for row in (rule, heads, agents):
        found = result.estimates[row.name]
        met = f"SLO met in {share(found[MET], 1)} of {a.episodes} episodes"
        print(f"{row.name:24s} {amount(found[CARBON])} mg a request, {met}")
    carbon = compare(result, agents, rule).relative_difference
    print(f"{agents.name} against {RULE}: {relative(carbon)} carbon")
    carbon = difference(result, agents, heads, agents.seeds, CARBON, share=True)
    met = difference(result, agents, heads, agents.seeds, MET)
    print(f"{agents.name} against {heads.name}, by seed: {relative(carbon)} carbon, SLO met {points(met)}")


def _seeds(result: BenchmarkResult, folders: list[str]) -> SeedGroup:
    """The row of several folders together."""
    families = siblings({folder: read_training(Path(folder)) for folder in folders})
    if len(families) != 1 or len(families[0].members) != len(folders):
        raise SystemExit(
            f"expected folders that differ in their training seed only, got {', '.join(folders)}"
        )
    return next(group for group in result.groups if group.name == families[0].name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario")
    parser.add_argument("--tuned", required=True, help="rules, made by `carbonpilot tune --aim`")
    parser.add_argument("--agents", nargs="+", required=True, help="runs of one agent, several seeds")
    parser.add_argument("--heads", nargs="+", required=True, help="risk folders of the same seeds")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
