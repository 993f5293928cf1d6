"""The SLO-predictive rules: what they choose, and that they are monotone in margin and budget."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.metrics import episode_metrics
from carbonpilot.agents.predictive import SloPredictive, SloPredictiveBudget
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.rule_parameters import make_rule
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario

METRO = load_scenario("metro")
TABLE = build_table(METRO)
PLACEMENTS = len(METRO.placements)


def observations(scenario, batch, seed=0):
    table = build_table(scenario)
    drawn = np.random.default_rng(seed).uniform(table.low, table.high, (batch, len(table)))
    return drawn.astype(np.float32)


def with_values(**raw):
    """One observation of metro: a calm site, with some features set in their units."""
    calm = {
        "uplink_rtt_ms": 20,
        "uplink_rtt_last_ms": 20,
        "uplink_uplink_mbps": 60,
        "payload_kb": 50,
        "gap_ms": 100,
        "local-b0_latency_ms": 79,
        "local-b0_carbon_mg": 0.7,
        "edge-b0_latency_ms": 55,
        "edge-b0_carbon_mg": 0.5,
        "edge-b4_latency_ms": 95,
        "edge-b4_carbon_mg": 2.0,
        "north-b0_latency_ms": 70,
        "north-b0_carbon_mg": 0.3,
        "south-b0_latency_ms": 80,
        "south-b0_carbon_mg": 0.4,
        "radio_tail_s": 3.9,
        "progress": 0.5,
        "slo_budget_spent": 0.4,
    }
    observation = np.zeros((1, len(TABLE)), dtype=np.float32)
    for name, value in (calm | raw).items():
        observation[:, TABLE.index[name]] = value / TABLE.features[TABLE.index[name]].scale
    return observation


ALL = np.ones((1, PLACEMENTS), dtype=bool)


def first_choice(rule, **raw):
    rule.reset(1)
    return METRO.placements[int(rule.decide(with_values(**raw), ALL)[0])].name


def test_takes_the_cleanest_placement_that_is_in_time():
    assert first_choice(SloPredictive(METRO)) == "north-b0"
    assert first_choice(SloPredictive(METRO), **{"north-b0_latency_ms": 160}) == "south-b0"


def test_takes_the_fastest_where_nothing_is_in_time():
    late = {f"{p.name}_latency_ms": 400 + 10 * i for i, p in enumerate(METRO.placements)}
    late["local-b0_latency_ms"] = 200
    assert first_choice(SloPredictive(METRO), **late) == "local-b0"
    late["edge-b4_latency_ms"] = 160
    assert first_choice(SloPredictive(METRO), **late) == "edge-b4"


def test_a_sleeping_radio_makes_offloading_dearer():
    rule = {"radio_share": 1.0}
    dirty = {"device_carbon_g_per_kwh": 700, "edge-b0_carbon_mg": 1.0, "south-b0_carbon_mg": 1.0}
    assert first_choice(SloPredictive(METRO, rule), radio_tail_s=4.0, **dirty) == "north-b0"
    assert first_choice(SloPredictive(METRO, rule), radio_tail_s=0.0, **dirty) == "local-b0"


def test_load_raises_predicted_carbon():
    rule = SloPredictive(METRO, {"load_carbon_share": 1.0})
    near = {"north-b0_carbon_mg": 0.30, "south-b0_carbon_mg": 0.32}
    assert first_choice(rule, **near) == "north-b0"
    assert first_choice(rule, north_load=0.5, south_load=0.1, **near) == "south-b0"


def test_a_hot_device_is_spared_while_it_is_near_throttling():
    rule = SloPredictive(METRO, {"heat_price_mg": 2.0, "heat_reserve": 0.05})
    dirty = {f"{p.name}_carbon_mg": 1.2 for p in METRO.placements[1:]}
    assert first_choice(rule, device_heat=0.3, **dirty) == "local-b0"
    assert first_choice(rule, device_heat=0.72, **dirty) != "local-b0"


MARGINS = [
    "margin_ms",
    "rtt_share",
    "packets_share",
    "upload_share",
    "loss_ms_per_pct",
    "overdue_share",
    "miss_ms",
]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MARGINS), st.integers(0, 10_000))
def test_a_larger_margin_never_predicts_a_smaller_latency(name, seed):
    tunable = next(t for t in SloPredictive.TUNABLES if t.name == name)
    small, large = (SloPredictive(METRO, {name: value}) for value in (tunable.low, tunable.high))
    observation = observations(METRO, 50, seed)
    latencies = []
    for rule in (small, large):
        rule.reset(50)
        latencies.append(rule.predict(rule._view.of(observation)))
    assert (latencies[0] <= latencies[1] + 1e-3).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 60))
def test_a_larger_margin_never_offloads_where_a_smaller_one_stays(seed, more):
    observation = observations(METRO, 50, seed)
    choices = []
    for margin in (0.0, more):
        rule = SloPredictive(METRO, {"margin_ms": margin})
        rule.reset(50)
        latency = rule.predict(rule._view.of(observation))
        in_time = latency <= 150
        choices.append((rule.decide(observation, np.ones((50, PLACEMENTS), bool)), in_time))
    (_, few), (chosen, many) = choices[0], choices[1]
    assert (many <= few).all()
    # What the careful rule offloads in time, the other one could have offloaded as well.
    offloads = (chosen > 0) & many[chosen, np.arange(50)]
    assert few[chosen, np.arange(50)][offloads].all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_the_more_of_the_budget_is_spent_the_less_risk_is_taken(seed, one, other):
    observation = observations(METRO, 60, seed)
    risks = []
    for spent in sorted((one, other)):
        observation[:, TABLE.index["slo_budget_spent"]] = spent
        rule = SloPredictiveBudget(METRO)
        rule.reset(60)
        odds = rule.log_odds(rule.predict(rule._view.of(observation)))
        choice = rule.decide(observation, np.ones((60, PLACEMENTS), bool))
        risks.append(odds[choice, np.arange(60)])
    assert (risks[1] <= risks[0] + 1e-4).all()


def test_under_the_shield_only_risk_counts():
    rule = SloPredictiveBudget(METRO, {"shield_misses": 10})
    cheap_but_late = {"north-b0_latency_ms": 130, "north-b0_carbon_mg": 0.001, "device_carbon_g_per_kwh": 500}
    fast = {"edge-b0_latency_ms": 30, "edge-b0_carbon_mg": 5.0}
    rule.reset(1)
    observation = with_values(slo_budget_spent=0.9, **cheap_but_late, **fast)
    odds = rule.log_odds(rule.predict(rule._view.of(observation)))
    rule.reset(1)
    assert rule.decide(observation, ALL)[0] == odds[:, 0].argmin()


def test_the_budget_rule_pays_with_misses_for_carbon_and_keeps_the_slo_oftener_than_the_device():
    seeds = np.arange(40) + 500
    scores = {}
    for name in ("slo-predictive-budget", "slo-predictive"):
        record = run_policy(make_rule(name, METRO), METRO, seeds, "training")
        scores[name] = {k: v.mean() for k, v in episode_metrics(record, METRO.slo).items()}
    local = run_policy(
        make_rule("rtt-threshold", METRO, {"offload_below_ms": 1, "return_above_ms": 1}),
        METRO,
        seeds,
        "training",
    )
    device = {k: v.mean() for k, v in episode_metrics(local, METRO.slo).items()}
    budget = scores["slo-predictive-budget"]
    assert budget["episodes_meeting_slo"] > device["episodes_meeting_slo"] + 0.2
    assert budget["carbon_mg_per_request"] < 0.85 * device["carbon_mg_per_request"]
