"""The price on risk: its formula by hand, one request as a batch, what moves it and which way."""

import math

import numpy as np
import pytest
from risk_builder import simulated_observations

from carbonpilot.agents.predictive import SloPredictiveBudget
from carbonpilot.agents.predictive_view import PlacementView
from carbonpilot.agents.risk.parameters import (
    CAUTION,
    EVERY,
    PRICE,
    complete_price,
    default_price,
    newer,
    searched,
)
from carbonpilot.agents.risk.price import Price
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.units import MG_PER_J_PER_G_PER_KWH


@pytest.fixture(scope="module")
def scenario():
    return load_scenario("metro")


@pytest.fixture(scope="module")
def table(scenario):
    return build_table(scenario)


@pytest.fixture(scope="module")
def observations(scenario):
    return simulated_observations(scenario, 400)


def logits_for(scenario, count, seed=1):
    shape = (count, len(scenario.placements))
    return np.random.default_rng(seed).normal(-1, 3, shape).astype(np.float32)


def changed(table, observation, **values):
    """An observation with some features set, in their own units."""
    out = observation.copy()
    for name, value in values.items():
        out[..., table.index[name]] = value / table.features[table.index[name]].scale
    return out


def test_the_formula_by_hand(scenario, table):
    p = default_price() | {
        "remote_carbon_factor": 1.2, "load_carbon_share": 0.5, "radio_share": 0.3, "heat_price_mg": 0.8,
        "heat_price_locals": 1.4, "hot_price_locals": 0.4, "heat_reserve": 0.1, "heat_ramp": 0.2, "miss_price_mg": 2.0,
        "miss_price_locals": 3.0, "budget_gain": 4.0, "budget_head_start": 0.1, "budget_end": 0.9,
        "shield_misses": 5.0,
    }  # fmt: skip
    raw = {
        "device_carbon_g_per_kwh": 400, "radio_tail_s": 1.5, "device_heat": 0.65, "device_throttled": 0,
        "slo_budget_spent": 0.4, "progress": 0.25, "local-b0_carbon_mg": 0.5, "north-b0_carbon_mg": 0.2,
        "north_load": 0.6, "wish_carbon": 1.0, "wish_latency": 0.5, "wish_accuracy": 0.0,
    }  # fmt: skip
    observation = changed(table, np.zeros(len(table), np.float32), **raw)
    logits = np.array([-3.0, 0.0, 0.0, 0.5, 0.0], np.float32)
    radio = scenario.device.radio
    miss = (2.0 + 3.0 * 0.5) * math.exp(4.0 * (0.4 - 0.1 - 0.8 * 0.25))
    tail_mg = 0.3 * (radio.tail_s - 1.5) * radio.tail_power_w * MG_PER_J_PER_G_PER_KWH * 400
    hot = scenario.device.throttling.hot_utilisation
    heat_mg = (0.8 + 1.4 * 0.5) * (0.65 - (hot - 0.1)) / 0.2
    scores = Price(scenario, p).scores(observation, logits)
    names = [place.name for place in scenario.placements]
    assert scores[0] == pytest.approx(0.5 + heat_mg + miss / (1 + math.exp(3.0)), rel=1e-5)
    expected = 0.2 * 1.2 * (1 + 0.5 * 0.6) + tail_mg + miss / (1 + math.exp(-0.5))
    assert scores[names.index("north-b0")] == pytest.approx(expected, rel=1e-5)


def test_it_is_the_rule_s_price_where_the_rule_remembers_nothing(scenario, observations):
    """With the rule's numbers, its logits and a fresh memory, both minimise the same (but heat and hysteresis)."""
    numbers = {"heat_price_mg": 0.0, "hot_price_mg": 0.0, "hysteresis_mg": 0.0}
    assert {"heat_price_locals", "hot_price_locals"} <= {t.name for t in PRICE}
    rule = SloPredictiveBudget(scenario, numbers)
    rule.reset(len(observations))
    view = PlacementView(scenario).of(observations)
    latency = rule.predict(view)
    theirs = rule.score(view, latency, rule.carbon(view))
    logits = np.ascontiguousarray(rule.log_odds(latency).T, dtype=np.float32)
    shared = {t.name: float(rule.p[t.name]) for t in PRICE if t.name in rule.p}
    ours = Price(scenario, shared).scores(observations, logits)
    assert not rule.shielded(view).all()
    assert np.allclose(ours, theirs.T, rtol=1e-4, atol=1e-4)


def test_one_request_gets_what_it_gets_in_a_batch(scenario, observations):
    price, logits = Price(scenario), logits_for(scenario, len(observations))
    together = price.scores(observations, logits)
    alone = np.stack([price.scores(o, row).copy() for o, row in zip(observations, logits, strict=True)])
    assert np.allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_each_episode_may_have_a_price_of_its_own(scenario, observations):
    logits = logits_for(scenario, 3)
    own = Price(scenario, {"miss_price_mg": np.array([0.5, 2.0, 8.0])}).scores(observations[:3], logits)
    for i, mg in enumerate((0.5, 2.0, 8.0)):
        one = Price(scenario, {"miss_price_mg": mg}).scores(observations[i], logits[i])
        assert np.allclose(own[i], one, rtol=1e-5)
    with pytest.raises(InputError, match="a single observation needs one alone"):
        Price(scenario, {"miss_price_mg": np.array([0.5, 2.0])}).scores(observations[0], logits[0])


def test_dearer_misses_never_choose_more_risk(scenario, observations):
    logits = logits_for(scenario, len(observations))
    rows = np.arange(len(observations))
    chosen = [
        Price(scenario, {"miss_price_mg": mg, "miss_price_locals": 0.05})
        .scores(observations, logits)
        .argmin(1)
        for mg in (0.05, 0.2, 0.8, 3.0, 12.0, 50.0)
    ]
    risks = np.stack([logits[rows, choice] for choice in chosen])
    assert (np.diff(risks, axis=0) <= 1e-6).all()
    assert (risks[0] > risks[-1]).any()


def test_misses_ahead_of_plan_make_a_miss_dearer_and_few_left_leave_only_risk(scenario, table, observations):
    price, logits = Price(scenario), logits_for(scenario, 1)[0]
    spread = []
    for spent in (0.0, 0.3, 0.6):
        here = changed(table, observations[0], slo_budget_spent=spent, progress=0.3)
        scores = price.scores(here, logits).copy()
        spread.append(scores[logits.argmax()] - scores[logits.argmin()])
        assert not price.shielded(here)
    assert spread[0] < spread[1] < spread[2]
    here = changed(table, observations[0], slo_budget_spent=0.9, progress=0.3)
    assert price.shielded(here)
    assert (price.scores(here, logits) == logits).all()


def test_a_hot_device_costs_more_up_to_throttling(scenario, table, observations):
    price = Price(
        scenario, {"heat_price_mg": 1.0, "hot_price_mg": 0.3, "heat_reserve": 0.05, "heat_ramp": 0.1}
    )
    logits = logits_for(scenario, 1)[0]
    cold = changed(table, observations[0], device_throttled=0, slo_budget_spent=0)
    scores = [price.scores(changed(table, cold, device_heat=h), logits).copy() for h in (0.2, 0.7, 0.9)]
    local = [s[0] for s in scores]
    assert local[1] - local[0] == pytest.approx(0.5, abs=1e-5)
    assert local[2] - local[0] == pytest.approx(1.0, abs=1e-5)
    throttled = price.scores(changed(table, cold, device_heat=0.2, device_throttled=1), logits)
    assert throttled[0] - local[0] == pytest.approx(0.3, abs=1e-5)
    assert (scores[0][1:] == scores[2][1:]).all()


def test_heat_in_local_requests_is_cheap_where_the_grid_is_clean(scenario, table, observations):
    """In mg it is the same everywhere; in the unit that is searched it follows the device's own carbon."""
    logits, carbon = logits_for(scenario, 1)[0], f"{scenario.placements[0].name}_carbon_mg"
    heat = {"heat_reserve": 0.05, "heat_ramp": 0.1, "heat_price_locals": 3.0, "hot_price_locals": 0.5}
    cold = changed(table, observations[0], device_throttled=0, slo_budget_spent=0, device_heat=0.2)
    for unit_mg in (0.4, 0.1):
        here = changed(table, cold, **{carbon: unit_mg})
        price = Price(scenario, heat)
        local = float(price.scores(here, logits)[0])
        assert price.scores(changed(table, here, device_heat=0.9), logits)[0] - local == pytest.approx(
            3.0 * unit_mg, abs=1e-5
        )
        assert price.scores(changed(table, here, device_throttled=1), logits)[0] - local == pytest.approx(
            0.5 * unit_mg, abs=1e-5
        )


def test_a_price_made_before_has_heat_in_mg_only():
    older = complete_price({"heat_price_mg": 0.9, "hot_price_mg": 0.1})
    assert (older["heat_price_locals"], older["hot_price_locals"]) == (0.0, 0.0)
    started = complete_price(newer(older))
    assert started["heat_price_mg"] == 0.0
    assert complete_price(None) == default_price()
    assert default_price()["heat_price_mg"] == 0.0 < default_price()["heat_price_locals"]
    assert not {"heat_price_mg", "hot_price_mg"} & {t.name for t in PRICE}


def test_nan_goes_through(scenario, observations):
    price, logits = Price(scenario), np.full(len(scenario.placements), np.nan, np.float32)
    assert np.isnan(price.scores(observations[0], logits)).all()
    assert np.isnan(price.scores(observations[:1], logits[None])).all()


def test_extreme_logits_and_budgets_stay_finite(scenario, table, observations):
    price = Price(scenario, {"budget_gain": 20.0, "shield_misses": 0.0})
    wild = changed(table, observations[:2], slo_budget_spent=4.0, progress=0.0)
    logits = np.array([[1e4, -1e4, 500.0, -500.0, 0.0]] * 2, np.float32)
    assert np.isfinite(price.scores(wild, logits)).all()
    early = changed(table, wild, slo_budget_spent=0.0, progress=1.0)
    assert np.isfinite(price.scores(early[0], logits[0])).all()
    assert np.isfinite(price.scores(early, logits)).all()


def test_unknown_and_impossible_prices_are_refused(scenario):
    with pytest.raises(InputError, match="Did you mean 'budget_gain'"):
        Price(scenario, {"budget_gian": 1.0})
    with pytest.raises(InputError, match="radio_share: must lie in 0 to 1"):
        Price(scenario, {"radio_share": 2.0})
    assert set(default_price()) == {t.name for t in EVERY}


def test_wrong_shapes_are_refused(scenario, observations):
    price = Price(scenario)
    with pytest.raises(InputError, match="Logits: expected shape"):
        price.scores(observations[:3], logits_for(scenario, 2))
    with pytest.raises(InputError, match="Observation: expected shape"):
        price.scores(observations[:3, :-1], logits_for(scenario, 3))


def test_a_search_keeps_heat_cheap_and_begins_inside_of_its_range():
    """A dear heat is found by luck on dirty grids; prices that were made with it can still be read."""
    dear = {"heat_price_locals": 6.7, "hot_price_locals": 4.3, "budget_gain": 11.0}
    found = {t.name: t for t in searched(dear)}
    assert (found["heat_price_locals"].high, found["hot_price_locals"].high) == (0.6, 0.15)
    assert (found["heat_price_locals"].default, found["hot_price_locals"].default) == (0.6, 0.15)
    assert found["budget_gain"].default == 11.0
    assert complete_price(dear)["heat_price_locals"] == 6.7
    assert set(found) == {t.name for t in (*PRICE, *CAUTION)}
