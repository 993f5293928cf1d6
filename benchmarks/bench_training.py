"""What training costs: the environment's share of PPO's time, and our settings against SB3's defaults.

Run by ``make bench``; figures are ratios measured in one interleaved run with one torch thread.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from carbonpilot.envs.sb3_vec_env import make_sb3_env

ROUNDS = 3
SCENARIO = "metro"
OURS = {"n_steps": 128, "batch_size": 2048, "n_epochs": 4}
DEFAULT = {"n_steps": 256, "batch_size": 64, "n_epochs": 10}  # SB3's batch and epochs, 2048 steps a rollout


class Stopwatch(VecEnvWrapper):
    """Adds up the time spent inside the environment."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.seconds = 0.0

    def reset(self) -> Any:
        """Reset, outside the count."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """Step and add its time."""
        start = time.perf_counter()
        result = self.venv.step_wait()
        self.seconds += time.perf_counter() - start
        return result


def ours() -> tuple[PPO, Stopwatch]:
    """PPO with this project's setting: 64 native environments, large minibatches."""
    env = Stopwatch(make_sb3_env(SCENARIO, 64, seed=0))
    return PPO("MlpPolicy", env, gamma=0.95, gae_lambda=0.9, **OURS), env


def default() -> PPO:
    """PPO as SB3 ships it, on 8 single environments in one process."""
    envs = [lambda: gym.make("carbonpilot/Placement-v0", scenario=SCENARIO)] * 8
    return PPO("MlpPolicy", DummyVecEnv(envs), **DEFAULT)


def rate(model: PPO, steps: int) -> float:
    """Environment steps a second over some more steps of learning."""
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return steps / (time.perf_counter() - start)


def main() -> None:
    """Print the ratios beside the goals."""
    torch.set_num_threads(1)
    large, watch = ours()
    small = default()
    rate(large, 64 * 128)
    rate(small, 2048)
    ratios, shares, rates = [], [], []
    for _ in range(ROUNDS):
        watch.seconds, start = 0.0, time.perf_counter()
        rates.append(rate(large, 12 * 64 * 128))
        shares.append(watch.seconds / (time.perf_counter() - start))
        ratios.append(rates[-1] / rate(small, 2 * 2048))
    share = statistics.median(shares)
    print(f"environment's share of PPO time (64 x 128, batch 2048): {share:.1%} (at most 25 %, aim 12 %)")
    speedup, steps_per_s = statistics.median(ratios), statistics.median(rates)
    print(f"our PPO setting / SB3's default: {speedup:.1f} (at least 10); {steps_per_s:,.0f} steps/s")


if __name__ == "__main__":
    main()
