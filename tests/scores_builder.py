"""Synthetic scores of policies with a known answer: mean carbon, and the share of episodes that meet the SLO."""

from __future__ import annotations

import numpy as np

from carbonpilot.agents.benchmark import BenchmarkResult, PolicyResult
from carbonpilot.envs.scenario import load_scenario

SCENARIO = load_scenario("metro")
NAMES = [p.name for p in SCENARIO.placements]
EPISODES = 200
TAPE = np.random.default_rng(0).normal(0.0, 0.05, EPISODES)  # how dirty each tape is


def scores(name: str, kind: str, carbon_mg: float, met: float = 1.0, noise: float = 0.01) -> PolicyResult:
    """A policy of known mean carbon that meets the SLO in a given share of the episodes."""
    rng = np.random.default_rng(len(name) + int(1000 * carbon_mg))
    own = rng.normal(0.0, noise, EPISODES)
    meets = (np.arange(EPISODES) < round(met * EPISODES)).astype(float)
    carbon = carbon_mg + TAPE + own - (TAPE + own).mean()
    metrics = {
        "carbon_mg_per_request": carbon,
        "energy_j_per_request": 10 * carbon,
        "latency_p50_ms": np.full(EPISODES, 80.0),
        "latency_p95_ms": np.where(meets > 0, 120.0, 180.0),
        "latency_p99_ms": np.full(EPISODES, 190.0),
        "latency_slo_quantile_ms": np.where(meets > 0, 120.0, 180.0),
        "slo_miss_rate": np.where(meets > 0, 0.02, 0.09),
        "episodes_meeting_slo": meets,
        "accuracy_miou": np.full(EPISODES, 74.6),
        "carbon_mg_marginal_per_request": carbon,
        "carbon_mg_attributional_per_request": 2 * carbon,
        "reward_per_request": -carbon,
    }
    shares = np.zeros((len(NAMES), EPISODES))
    shares[0], shares[1] = 0.25, 0.75
    return PolicyResult(
        name=name,
        kind=kind,
        metrics=metrics,
        shares=shares,
        latency_cdf_ms=np.linspace(60, 200, 1001),
        time=np.linspace(10, 990, 50),
        time_shares=np.repeat(shares[:, :1], 50, axis=1),
        requests=EPISODES * 1000,
    )


def result(*learned: PolicyResult, rule_met: float = 1.0) -> BenchmarkResult:
    """The usual field around the learned policies; the rule is the one to beat at 0.30 mg."""
    field = (
        scores("always-local", "static", 0.50),
        scores("always-edge-b0", "static", 0.10, met=0.1),
        scores("rtt-threshold", "rule", 0.30, met=rule_met),
        scores("oracle-per-request", "oracle", 0.20),
    )
    return BenchmarkResult(SCENARIO, seed=0, episodes=EPISODES, part="evaluation", results=(*field, *learned))
