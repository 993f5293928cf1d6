"""The SLO as a constraint against the scenario's fixed penalty: trains both, plays both on fresh training tapes.

    python benchmarks/compare_constraint.py metro metro-mild khan-mixed --algo maskable-ppo --steps 1000000 --seeds 0 1

Prints a Markdown table. The tapes are of the training part (seeds 5000 and up): settings are chosen by such figures, so
evaluation tapes stay out of it. Runs that exist in ``--out`` already are played, not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from carbonpilot.agents.constraint import FILE
from carbonpilot.agents.metrics import episode_metrics
from carbonpilot.agents.policy import Policy
from carbonpilot.agents.policy_registry import resolve
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.agents.train import train
from carbonpilot.agents.training_config import changes_from
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Scenario

FIRST_TAPE = 5000
HEAD = "| scenario | price of a miss | seed | mg/request | missed | p95 ms | episodes in SLO | last price | seconds |"


def scores(policy: Policy, scenario: Scenario, episodes: int) -> str:
    """Cells of carbon, misses, latency and compliance."""
    tapes = np.arange(FIRST_TAPE, FIRST_TAPE + episodes)
    metrics = episode_metrics(run_policy(policy, scenario, tapes, "training", None), scenario.slo)
    mean: dict[str, float] = {name: float(np.mean(values)) for name, values in metrics.items()}
    return (
        f"{mean['carbon_mg_per_request']:.3f} | {mean['slo_miss_rate']:.2%} | {mean['latency_p95_ms']:.0f} "
        f"| {mean['episodes_meeting_slo']:.0%}"
    )


def trained(
    out: Path, scenario: str, options: argparse.Namespace, seed: int, changes: dict[str, Any]
) -> RunDir:
    """The finished run in ``out``, trained if it is not there."""
    if not (out / "config.yaml").exists() or not RunDir(out).finished:
        train(
            scenario, options.algo, options.steps, seed, out, settings=changes, resume=(out / "config.yaml").exists()
        )  # fmt: skip
    return RunDir(out)


def row(name: str, kind: str, seed: int, options: argparse.Namespace) -> str:
    """Train one agent and score it."""
    changes = changes_from(options.set) | ({"constraint": None} if kind == "fixed" else {})
    run = trained(options.out / f"{name}-{options.algo}-{kind}-{seed}", name, options, seed, changes)
    state = run.checkpoints()[-1].folder / FILE
    price = json.loads(state.read_text())["multiplier"] if state.exists() else run.scenario.reward.slo_miss
    seconds = run.read_json("emissions.json")["duration_s"]
    cells = scores(Sb3Policy.load(run.path), run.scenario, options.episodes)
    return f"| {name} | {kind} | {seed} | {cells} | {price:.1f} | {seconds or 0:.0f} |"


def main() -> None:
    """Train, play and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="+")
    parser.add_argument("--algo", default="maskable-ppo")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("runs/constraint"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for name in options.scenarios:
        scenario = load_scenario(name)
        local = scores(resolve("always-local", scenario), scenario, options.episodes)
        lines.append(f"| {name} | always local | - | {local} | - | - |")
        lines += [
            row(name, kind, seed, options) for seed in options.seeds for kind in ("fixed", "constraint")
        ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
