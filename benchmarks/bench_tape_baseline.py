"""By how much the tape's baseline cuts the variance of returns, and what it costs: figures of docs/teaching.md.

    python benchmarks/bench_tape_baseline.py [SCENARIO]

The tuned rule with one placement in ten at random plays training tapes. Shown are variances with the baseline over
those without: of a request's reward, of its discounted return, and of what a critic leaves of the return. The critic is
a linear regression on the observation and its squares, fitted on one half of the tapes and measured on the other.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from carbonpilot.agents.rule_parameters import make_rule, tuned_rules
from carbonpilot.agents.teach.baseline import HindsightReference, TapeBaseline
from carbonpilot.agents.teach.lessons import discounted
from carbonpilot.agents.teach.tapes import TeachingTapes
from carbonpilot.envs.sb3_vec_env import make_sb3_env
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.simulator import Simulator

TAPES, EXPLORE = 128, 0.1
RULE = "slo-predictive-budget"
HORIZONS = ((0.95, 0.9), (0.9, 0.7), (0.95, 1.0))  # gamma, GAE lambda; the last: whole discounted returns
STEPS, ENVS = 500, 64


def played(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations (N, B, F), rewards and baselines (N, B)."""
    scenario = load_scenario(name)
    simulator = Simulator(scenario, TAPES)
    observation = simulator.reset_tape(TeachingTapes(scenario, 0).draw(0, TAPES))
    reference, policy = (
        HindsightReference(simulator),
        make_rule(RULE, scenario, tuned_rules(scenario).parameters.get(RULE)),
    )
    policy.reset(TAPES)
    rng, seen, rewards, baselines = np.random.default_rng(0), [], [], []
    for _ in range(scenario.episode.requests):
        mask = simulator.masks()
        random = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
        chosen = np.where(rng.random(TAPES) < EXPLORE, random, policy.decide(observation, mask))
        seen.append(observation)
        baselines.append(reference.rewards())
        result = simulator.step(chosen)
        rewards.append(result.reward)
        observation = result.observation
    return np.array(seen), np.array(rewards), np.array(baselines)


def left_over(seen: np.ndarray, returns: np.ndarray) -> float:
    """Variance of returns (N, B) that a regression on the observations does not explain."""
    features = seen.astype(np.float64)
    features = (features - features.mean((0, 1))) / (features.std((0, 1)) + 1e-6)
    features = np.concatenate([features, features**2, np.ones((*returns.shape, 1))], axis=2)
    half = returns.shape[1] // 2
    fit, target = features[:, :half].reshape(-1, features.shape[2]), returns[:, :half].ravel()
    weights = np.linalg.solve(fit.T @ fit + 10.0 * np.eye(fit.shape[1]), fit.T @ target)
    return float((returns[:, half:] - features[:, half:] @ weights).var())


def step_us(name: str) -> tuple[float, float]:
    """Median time of a step of 64 environments without and with the baseline, us."""
    medians = []
    for wrap in (False, True):
        site = make_sb3_env(name, ENVS, 0)
        env = TapeBaseline(site, site, 1.0, constrained=False) if wrap else site
        env.reset()
        rng, times = np.random.default_rng(0), []
        for _ in range(STEPS):
            actions = rng.integers(0, len(site.simulator.placement_names), ENVS)
            began = time.perf_counter()
            env.step(actions)
            times.append(time.perf_counter() - began)
        medians.append(1e6 * float(np.median(times)))
        env.close()
    return medians[0], medians[1]


def main() -> None:
    """Print the ratios."""
    name = sys.argv[1] if len(sys.argv) > 1 else "metro"
    seen, rewards, baselines = played(name)
    less = rewards - baselines
    print(f"{name}, {TAPES} training tapes: variance with the baseline / without")
    print(f"reward of a request: {less.var() / rewards.var():.2f}")
    for gamma, gae in HORIZONS:
        plain, cut = (discounted(r, gamma * gae) for r in (rewards, less))
        left = left_over(seen, cut) / left_over(seen, plain)
        print(
            f"gamma {gamma}, lambda {gae}: return {cut.var() / plain.var():.2f}, left by a critic {left:.2f}"
        )
    without, having = step_us(name)
    print(f"step of {ENVS} environments: {without:.0f} us, with the baseline {having:.0f} us")


if __name__ == "__main__":
    main()
