"""Static policies and rules: masks, batch against single, each rule's own logic."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.baselines import (
    RttThreshold,
    baseline_names,
    default_rtt_limit_ms,
    make_policy,
    nearest_remote,
    service_p95_ms,
)
from carbonpilot.agents.policy import Policy
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Service

METRO = load_scenario("metro")
TABLE = build_table(METRO)
PLACEMENTS = len(METRO.placements)
NAMES = baseline_names(METRO)


def observations(batch: int, seed: int = 0) -> np.ndarray:
    """Observations uniform over the Box (B, F)."""
    return np.random.default_rng(seed).uniform(TABLE.low, TABLE.high, (batch, len(TABLE))).astype(np.float32)


def masks(batch: int, seed: int = 0) -> np.ndarray:
    """Random masks (B, P) that always allow local."""
    mask = np.random.default_rng(seed).random((batch, PLACEMENTS)) < 0.5
    mask[:, 0] = True
    return mask


def with_values(batch: int = 1, **raw: float) -> np.ndarray:
    """Observations of zeros with some features set, in their units."""
    observation = np.zeros((batch, len(TABLE)), dtype=np.float32)
    for name, value in raw.items():
        observation[:, TABLE.index[name]] = value / TABLE.features[TABLE.index[name]].scale
    return observation


ALL = np.ones((1, PLACEMENTS), dtype=bool)


def test_names_are_those_of_the_contract():
    assert NAMES[0] == "always-local"
    assert NAMES[1:PLACEMENTS] == [f"always-{p.name}" for p in METRO.placements[1:]]
    assert NAMES[PLACEMENTS:] == ["round-robin", "random", "rtt-threshold", "cleanest-zone"]


@pytest.mark.parametrize("name", NAMES)
def test_follows_the_protocol_and_never_breaks_the_mask(name):
    policy = make_policy(name, METRO, seed=3)
    assert isinstance(policy, Policy)
    assert policy.name == name
    policy.reset(200)
    for step in range(5):
        mask = masks(200, step)
        choice = policy.decide(observations(200, step), mask)
        assert choice.shape == (200,)
        assert choice.dtype == np.int64
        assert mask[np.arange(200), choice].all()
    policy.reset(1)
    for step in range(50):
        mask = masks(1, step)[0]
        choice = policy.decide(observations(1, step)[0], mask)
        assert isinstance(choice, int)
        assert mask[choice]


@pytest.mark.parametrize("name", NAMES)
def test_single_decisions_equal_those_of_the_batch(name):
    steps = [(observations(6, s), masks(6, s)) for s in range(20)]
    policy = make_policy(name, METRO, seed=5)
    policy.reset(6)
    together = np.array([policy.decide(o, m) for o, m in steps])
    alone = make_policy(name, METRO, seed=5)
    for column in range(6):
        alone.reset(1)
        assert [alone.decide(o[column], m[column]) for o, m in steps] == together[:, column].tolist()


def test_always_goes_local_while_its_placement_is_forbidden():
    policy = make_policy(NAMES[2], METRO)
    policy.reset(1)
    mask = ALL.copy()
    assert policy.decide(observations(1), mask).tolist() == [2]
    mask[0, 2] = False
    assert policy.decide(observations(1), mask).tolist() == [0]


def test_round_robin_takes_turns_and_skips_the_forbidden():
    policy = make_policy("round-robin", METRO)
    policy.reset(1)
    mask = ALL[0].copy()
    mask[1] = False
    turns = [policy.decide(observations(1)[0], mask) for _ in range(2 * (PLACEMENTS - 1))]
    allowed = [p for p in range(PLACEMENTS) if p != 1]
    assert turns == allowed * 2
    policy.reset(1)
    assert policy.decide(observations(1)[0], mask) == 0


def test_random_is_uniform_over_the_allowed_and_repeats_with_its_seed():
    mask = np.tile(ALL, (2000, 1))
    mask[:, 1] = False
    runs = []
    for seed in (0, 0, 1):
        policy = make_policy("random", METRO, seed=seed)
        policy.reset(2000)
        runs.append(np.array([policy.decide(observations(2000), mask) for _ in range(10)]))
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).mean() > 0.5
    share = np.bincount(runs[0].ravel(), minlength=PLACEMENTS) / runs[0].size
    expected = np.where(mask[0], 1 / (PLACEMENTS - 1), 0)
    # 20 000 draws: a standard error is at most 0.0035.
    np.testing.assert_allclose(share, expected, atol=0.015)


def test_random_gives_later_batches_fresh_streams():
    policy = make_policy("random", METRO, seed=0)
    draws = []
    for _ in range(2):
        policy.reset(1)
        draws.append([policy.decide(observations(1)[0], ALL[0]) for _ in range(40)])
    assert draws[0] != draws[1]


def test_rtt_threshold_has_hysteresis():
    policy = RttThreshold(METRO, offload_below_ms=40, return_above_ms=60)
    link = METRO.nodes[METRO.placements[policy.target].node].link
    policy.reset(1)
    taken = [policy.decide(with_values(**{f"{link}_rtt_ms": v}), ALL)[0] for v in (50, 39, 59, 61, 41, 40)]
    assert taken == [0, policy.target, policy.target, 0, 0, policy.target]
    policy.decide(with_values(**{f"{link}_rtt_ms": 10}), ALL)
    policy.reset(1)
    assert policy.decide(with_values(**{f"{link}_rtt_ms": 50}), ALL)[0] == 0  # forgotten with the episode


def test_rtt_threshold_defaults_follow_from_the_slo():
    policy = RttThreshold(METRO)
    target = METRO.placements[policy.target]
    node = METRO.nodes[target.node]
    assert policy.target == nearest_remote(METRO)
    assert node.extra_rtt_ms == min(n.extra_rtt_ms for n in METRO.nodes.values())
    left_ms = METRO.slo.latency_ms - service_p95_ms(target.service)
    assert policy.return_above_ms == pytest.approx(left_ms / 2 - node.extra_rtt_ms)
    assert policy.offload_below_ms == pytest.approx(0.8 * policy.return_above_ms)
    assert default_rtt_limit_ms(METRO, METRO.placements[0]) == 0.0


def test_service_p95():
    assert service_p95_ms(Service(distribution="lognormal", p50_ms=79, p95_ms=94)) == 94
    assert service_p95_ms(Service(distribution="deterministic", mean_ms=18)) == 18
    # P(X > p95) = exp(-p95 / mean) = 0.05
    assert np.exp(-service_p95_ms(Service(distribution="exponential", mean_ms=18)) / 18) == pytest.approx(
        0.05
    )


def test_cleanest_zone_takes_the_lowest_intensity_and_breaks_ties_by_carbon():
    policy = make_policy("cleanest-zone", METRO)
    nodes = list(METRO.nodes)
    raw = {f"{node}_carbon_g_per_kwh": 400.0 for node in nodes} | {"device_carbon_g_per_kwh": 300.0}
    assert policy.decide(with_values(**raw), ALL)[0] == 0
    raw[f"{nodes[-1]}_carbon_g_per_kwh"] = 100.0
    there = [i for i, p in enumerate(METRO.placements) if p.node == nodes[-1]]
    assert policy.decide(with_values(**raw), ALL)[0] in there
    mask = ALL.copy()
    mask[0, there] = False
    assert policy.decide(with_values(**raw), mask)[0] == 0
    equal = {f"{node}_carbon_g_per_kwh": 300.0 for node in [*nodes, "device"]}
    believed = {f"{p.name}_carbon_mg": 1.0 - 0.1 * i for i, p in enumerate(METRO.placements)}
    assert policy.decide(with_values(**equal, **believed), ALL)[0] == PLACEMENTS - 1


def test_unknown_baseline_offers_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'round-robin'"):
        make_policy("roundrobin", METRO)
