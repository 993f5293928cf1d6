"""The dial in the price on risk: exact per decision, neutral where it was tuned, the same for one and for many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.risk.price import Price
from carbonpilot.agents.risk_record import price_record
from carbonpilot.agents.risk_terms import Terms, scores_mg
from carbonpilot.envs.dial import WISH_FEATURES, load_dial
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.simulator import Simulator

METRO = load_scenario("metro")
TABLE = build_table(METRO)
WISH_COLUMNS = [TABLE.index[name] for name in WISH_FEATURES]
SPENT, PROGRESS = TABLE.index["slo_budget_spent"], TABLE.index["progress"]
LADDER = np.linspace(0, 1, 21)
MIOU = np.array([p.accuracy_miou for p in METRO.placements])


def observations(batch=64):
    """Telemetry of running episodes (B, F)."""
    simulator = Simulator(METRO, batch)
    simulator.reset(np.arange(batch))
    rng = np.random.default_rng(3)
    for _ in range(60):
        seen = simulator.step(rng.integers(0, 5, batch)).observation
    seen[:, SPENT] = rng.uniform(0, 0.8, batch)
    seen[:, PROGRESS] = rng.uniform(0, 1, batch)
    return seen


SEEN = observations()
PRICE = Price(METRO)
P = PRICE.constants()
situations = st.tuples(
    st.integers(0, len(SEEN) - 1),
    st.lists(st.floats(-8, 8), min_size=5, max_size=5),
    st.floats(0, 1),
    st.floats(0, 1),
)


def turned(row, wish, positions, others):
    """One observation at many positions of one wish (W, F)."""
    rows = np.repeat(SEEN[row][None], len(positions), axis=0).astype(np.float32)
    rows[:, WISH_COLUMNS] = others
    rows[:, WISH_COLUMNS[wish]] = positions
    return rows


def choices(rows, logits):
    """Chosen placements (W,) and the risk of each placement (P,)."""
    odds = np.asarray(logits, np.float32)
    picked = PRICE.scores(rows, np.repeat(odds[None], len(rows), axis=0)).argmin(axis=1)
    return picked, 1 / (1 + np.exp(-odds.astype(np.float64)))


def carbon_mg(row):
    """What the price takes as carbon of each placement, with its radio and heat (P,): scores without any risk."""
    rows = turned(row, 2, [0.0], [1.0, 0.5, 0.0])
    return PRICE.scores(rows, np.full((1, 5), -60, np.float32))[0]


@settings(max_examples=200)
@given(situations)
def test_more_wish_for_carbon_never_chooses_more_carbon(situation):
    row, logits, latency, accuracy = situation
    picked, _ = choices(turned(row, 0, LADDER, [0, latency, accuracy]), logits)
    chosen = carbon_mg(row)[picked]
    assert (np.diff(chosen) <= 1e-4 * np.abs(chosen[1:]) + 1e-5).all()


@settings(max_examples=200)
@given(situations)
def test_more_wish_for_latency_never_chooses_more_risk(situation):
    row, logits, carbon, accuracy = situation
    picked, risk = choices(turned(row, 1, LADDER, [carbon, 0, accuracy]), logits)
    assert (np.diff(risk[picked]) <= 1e-6).all()


@settings(max_examples=200)
@given(situations)
def test_more_wish_for_accuracy_never_chooses_less_of_it_in_time(situation):
    """What a late answer loses counts by the factor that is on the price of every miss just then."""
    row, logits, carbon, latency = situation
    picked, risk = choices(turned(row, 2, LADDER, [carbon, latency, 0]), logits)
    spent, progress = float(SEEN[row, SPENT]), float(SEEN[row, PROGRESS])
    ahead = P.budget_gain * (spent - P.planned_start - P.planned_slope * progress)
    late = MIOU[0] * np.exp(ahead + P.log_miss_span * (latency - 0.5))
    in_time = (MIOU - late * risk)[picked]
    assert (np.diff(in_time) >= -1e-4 * np.abs(in_time[1:]) - 1e-4).all()


@settings(max_examples=100)
@given(situations)
def test_where_risks_are_alike_more_wish_for_accuracy_never_leaves_the_large_model(situation):
    row, logits, carbon, latency = situation
    picked, _ = choices(turned(row, 2, LADDER, [carbon, latency, 0]), [logits[0]] * 5)
    assert (np.diff(MIOU[picked]) >= 0).all()


def test_every_wish_moves_decisions():
    """Monotone is no feat for a dial that does nothing."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (len(SEEN), 5)).astype(np.float32)
    for wish in range(3):
        changed = 0
        for row in range(len(SEEN)):
            picked, _ = choices(turned(row, wish, [0, 1], [0.5, 0.5, 0.5]), logits[row])
            changed += picked[0] != picked[1]
        assert changed >= 5, WISH_FEATURES[wish]


def test_the_site_of_the_tuning_sees_the_price_that_was_tuned():
    """At metro's own wishes the dial is neutral: its numbers may change without a new search."""
    other = Price(METRO, {"accuracy_price_mg": 3.0, "miss_price_span": 100.0, "carbon_share_at_zero": 0.5})
    logits = np.random.default_rng(1).normal(-2, 2, (len(SEEN), 5)).astype(np.float32)
    assert (SEEN[:, WISH_COLUMNS] == METRO.wishes.vector.astype(np.float32)).all()
    np.testing.assert_allclose(PRICE.scores(SEEN, logits), other.scores(SEEN, logits), rtol=1e-6)


@given(st.tuples(*[st.floats(0, 1, width=32)] * 3), st.integers(0, 1000))
def test_one_request_many_and_the_frozen_form_agree_at_every_position(position, seed):
    rows = SEEN[:8].copy()
    rows[:, WISH_COLUMNS] = position
    logits = np.random.default_rng(seed).normal(-2, 2, (8, 5)).astype(np.float32)
    many = PRICE.scores(rows, logits)
    one = np.array([PRICE.scores(row, odds).copy() for row, odds in zip(rows, logits, strict=True)])
    np.testing.assert_allclose(one, many, rtol=2e-4, atol=2e-4)
    record = price_record(METRO, None, np.full(len(TABLE), 0.5, np.float32))
    terms = Terms(record, TABLE.records())
    frozen, _, _ = scores_mg(np, rows.astype(np.float64) @ terms.matrix + terms.constant, logits, record)
    np.testing.assert_allclose(frozen, many, rtol=2e-4, atol=2e-3)


def test_a_folder_keeps_the_numbers_that_it_was_made_with():
    dial = load_dial()
    numbers = PRICE.parameters
    assert numbers["accuracy_price_mg"] == dial.accuracy_mg_per_miou
    assert numbers["miss_price_span"] == dial.miss_price_span
    assert numbers["carbon_share_at_zero"] == dial.carbon_share_at_zero
    assert pytest.approx(np.log(dial.miss_price_span)) == P.log_miss_span
