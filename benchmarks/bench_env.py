"""Speed of the environments against Gymnasium's CartPole, interleaved in one process; ratios, not verdicts.

Run by ``make bench``. Each round runs both sides for some time one after the other; the figure is the median
of the rounds' ratios. Episode restarts are part of both sides.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

import carbonpilot.envs
from carbonpilot.envs.placement_vector_env import PlacementVectorEnv

ROUNDS = 5
SCENARIO = "metro"
MEMORY_PROGRAM = """
import resource, numpy as np
from carbonpilot.envs.placement_vector_env import PlacementVectorEnv
env = PlacementVectorEnv(1024, scenario="metro")
env.reset(seed=0)
actions = np.random.default_rng(0).integers(0, env.single_action_space.n, (16, 1024))
for t in range(1000):
    env.step(actions[t % 16])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def vector_rate(env: gym.vector.VectorEnv, steps: int) -> float:
    """Environment steps a second with random actions."""
    n = env.num_envs
    actions = np.random.default_rng(0).integers(0, env.single_action_space.n, (16, n))
    start = time.perf_counter()
    for t in range(steps):
        env.step(actions[t % 16])
    return n * steps / (time.perf_counter() - start)


def single_rate(env: gym.Env, steps: int) -> float:
    """Steps a second of a single environment, restarts included."""
    actions = np.random.default_rng(0).integers(0, env.action_space.n, 256).tolist()
    start = time.perf_counter()
    for t in range(steps):
        _, _, terminated, truncated, _ = env.step(actions[t % 256])
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - start)


def vector_ratio(num_envs: int) -> tuple[float, float]:
    """Median ratio to CartPoleVectorEnv of the same size, and our median rate."""
    ours, theirs = PlacementVectorEnv(num_envs, scenario=SCENARIO), CartPoleVectorEnv(num_envs)
    rates = []
    for env in (ours, theirs):
        env.reset(seed=0)
        vector_rate(env, 50)
    for _ in range(ROUNDS):
        rates.append((vector_rate(ours, 1000), vector_rate(theirs, 4000 if num_envs < 256 else 2000)))
    return statistics.median(a / b for a, b in rates), statistics.median(a for a, _ in rates)


def single_ratio() -> tuple[float, float]:
    """Median ratio to CartPole-v1, and our median rate."""
    ours, theirs = gym.make("carbonpilot/Placement-v0", scenario=SCENARIO), gym.make("CartPole-v1")
    rates = []
    for env in (ours, theirs):
        env.reset(seed=0)
        single_rate(env, 1000)
    for _ in range(ROUNDS):
        rates.append((single_rate(ours, 4000), single_rate(theirs, 20_000)))
    return statistics.median(a / b for a, b in rates), statistics.median(a for a, _ in rates)


def memory_mib() -> float:
    """Peak resident memory of a fresh process with 1024 environments x 1000 requests, MiB."""
    out = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], capture_output=True, text=True, check=True)
    return float(out.stdout)


def main() -> None:
    """Print the ratios beside the goals."""
    for n, floor, aim in ((1024, 0.5, 1.0), (64, 0.5, 1.5)):
        ratio, rate = vector_ratio(n)
        goals = f"(floor {floor}, aim {aim})"
        print(f"vector env x{n} / CartPoleVectorEnv x{n}: {ratio:.2f} {goals}; {rate:,.0f} steps/s")
    ratio, rate = single_ratio()
    print(f"single env / CartPole-v1: {ratio:.2f} (floor 0.3, aim 1.0); {rate:,.0f} steps/s")
    print(f"memory of 1024 envs x 1000 requests: {memory_mib():.0f} MiB (limit 1024)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"(this process peaked at {peak:.0f} MiB; ids registered: {carbonpilot.envs.__name__})")


if __name__ == "__main__":
    main()
