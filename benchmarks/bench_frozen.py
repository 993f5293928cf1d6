"""The frozen policy's cost: one decision, and a fresh process that loads a bundle and decides once.

Everything is a ratio measured in one run: both sides alternate in short blocks; the median of the blocks'
ratios counts, so that a neighbour on the machine slows both sides.
Run: python benchmarks/bench_frozen.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN, PPO

from carbonpilot.agents.export import Origin, export_model
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.normalizer import FixedNormalizer
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario

SCENARIO = "metro"
HIDDEN = [64, 64]
BLOCKS, CALLS, PREDICT_CALLS, PROCESSES = 150, 200, 20, 5
# name -> (at most, aim), the project's goals for the device.
GOALS = {
    "decision / three np.dot, ppo": (3.5, 2.2),
    "decision / three np.dot, dqn": (3.5, 2.2),
    "decision / SB3 predict, ppo": (0.10, 0.04),
    "decision / SB3 predict, dqn": (0.10, 0.04),
    "fresh process / import numpy, time": (2.0, 1.5),
    "fresh process / import numpy, memory": (1.5, 1.2),
}
# Time and resident memory as the process itself sees them, so that starting Python is on neither side.
PROBE = """
import sys, time
start = time.perf_counter()
{work}
elapsed = time.perf_counter() - start
pages = int(open("/proc/self/statm").read().split()[1])
print(elapsed, pages)
"""
NUMPY_ALONE = "import numpy"
LOAD_AND_DECIDE = """
from carbonpilot.agents.frozen import FrozenPolicy
policy = FrozenPolicy.load(sys.argv[1])
import numpy
policy.decide(numpy.zeros(len(policy.card["observation"]["features"]), dtype=numpy.float32))
"""


class _Spaces(gymnasium.Env):
    """Only the spaces of a scenario: an untrained network costs as much as a trained one."""

    def __init__(self, table, actions):
        self.observation_space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)


def ratios() -> dict[str, float]:
    """Measure every goal of this file once."""
    scenario = load_scenario(SCENARIO)
    table = build_table(scenario)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for algorithm in (PPO, DQN):
            name, bundle = algorithm.__name__.lower(), Path(folder) / algorithm.__name__
            model = _model(algorithm, table, len(scenario.placements))
            export_model(model, bundle, Origin(scenario, table, "none", [0], 0, "none", {}))
            of_dots, of_predict = _decision_ratios(model, FrozenPolicy.load(bundle), table)
            found[f"decision / three np.dot, {name}"] = of_dots
            found[f"decision / SB3 predict, {name}"] = of_predict
        found |= _fresh_process(bundle)
    return {name: found[name] for name in GOALS}


def _model(algorithm, table, actions):
    size = len(table)
    normaliser = {"mean": np.full(size, 0.5, np.float32), "std": np.full(size, 0.25, np.float32)}
    extractor = {"features_extractor_class": FixedNormalizer, "features_extractor_kwargs": normaliser}
    arguments = {"net_arch": HIDDEN, **extractor}  # SB3's and our activations: tanh for PPO, ReLU for DQN
    return algorithm("MlpPolicy", _Spaces(table, actions), policy_kwargs=arguments, seed=0, device="cpu")


def _decision_ratios(model, policy: FrozenPolicy, table) -> tuple[float, float]:
    """A decision against three bare products of the policy's sizes, and against SB3's predict."""
    rng = np.random.default_rng(0)
    observations = rng.uniform(table.low, table.high, (CALLS, len(table))).astype(np.float32)
    mask = np.ones(len(policy.card["actions"]), dtype=np.bool_)
    sizes = policy.card["network"]["layers"]
    first, second, third = (rng.standard_normal(s).astype(np.float32) for s in pairwise(sizes))
    one, two, out = (np.empty(n, dtype=np.float32) for n in sizes[1:])

    def three_dots(observation):
        np.dot(observation, first, out=one)
        np.dot(one, second, out=two)
        np.dot(two, third, out=out)

    def decision(observation):
        policy.decide(observation, mask)

    def predict(observation):
        model.predict(observation, deterministic=True)

    cases = ((three_dots, CALLS), (decision, CALLS), (predict, PREDICT_CALLS))
    seconds = [[], [], []]
    for _ in range(BLOCKS):
        for (function, calls), times in zip(cases, seconds, strict=True):
            start = time.perf_counter()
            for observation in observations[:calls]:
                function(observation)
            times.append((time.perf_counter() - start) / calls)
    dots, decided, predicted = seconds
    return tuple(
        statistics.median(ours / theirs for ours, theirs in zip(decided, reference, strict=True))
        for reference in (dots, predicted)
    )


def _fresh_process(bundle: Path) -> dict[str, float]:
    """Load and decide in fresh processes, against processes that only import NumPy."""
    programs = {"numpy": NUMPY_ALONE, "policy": LOAD_AND_DECIDE}
    times, pages = ({name: [] for name in programs} for _ in range(2))
    for _ in range(PROCESSES + 1):  # the first round fills the file cache
        for name, work in programs.items():
            command = [sys.executable, "-c", PROBE.format(work=work), str(bundle)]
            seconds, resident = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.split()
            times[name].append(float(seconds))
            pages[name].append(int(resident))
    medians = [{name: statistics.median(v[1:]) for name, v in kind.items()} for kind in (times, pages)]
    return {
        f"fresh process / import numpy, {what}": values["policy"] / values["numpy"]
        for what, values in zip(("time", "memory"), medians, strict=True)
    }


def main() -> int:
    """Print the ratios beside their goals; 1 if one is missed."""
    torch.set_num_threads(1)
    missed = 0
    for name, value in ratios().items():
        limit, aim = GOALS[name]
        verdict = "aim reached" if value <= aim else "ok" if value <= limit else "MISSED"
        missed += value > limit
        print(f"{name:40s} {value:6.3f}   at most {limit:g}, aim {aim:g}: {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
