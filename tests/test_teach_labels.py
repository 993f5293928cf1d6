"""Labels of the teacher: the cost of every placement equals what playing it out by hand gives."""

import itertools

import numpy as np
import pytest

from carbonpilot.agents.teach.cost_to_go import CostToGo
from carbonpilot.agents.teach.costs import LabelUnit, MissPrice, check_weights, cost_mg
from carbonpilot.agents.teach.hindsight import budget_dual_mg, duals_mg, hindsight
from carbonpilot.agents.teach.lessons import Collector, discounted
from carbonpilot.agents.teach.settings import MissPriceConfig
from carbonpilot.agents.teach.tapes import TeachingTapes
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.simulator import Simulator
from carbonpilot.oracle.budget import solve_budget
from carbonpilot.oracle.replay import start

TAPES = 3
PRICE = np.array([0.0, 0.4, 3.0])  # mg


def config(**changes):
    values = {
        "source": "oracle",
        "factor": 1.0,
        "lowest_mg": 0.0,
        "budget_gain": 0.0,
        "target_share": 0.7,
        "adapt": 0.5,
    }
    return MissPriceConfig(**{**values, **changes})


@pytest.fixture
def short(tiny_scenario):
    """Seven requests that often miss, with a radio that stays awake, so that a placement matters for later ones."""
    return tiny_scenario(
        episode={"requests": 7},
        slo={"latency_ms": 95, "quantile": 0.8},
        device={"radio": {"transmit_power_w": 2, "tail_power_w": 1.2, "tail_s": 0.3}},
    )


def played(scenario, tape, plan, first, last):
    """Costs of the requests ``first`` to ``last`` of a plan (N, B), summed (B,)."""
    simulator, total = start(scenario, tape), np.zeros(TAPES)
    weight = simulator.state.episodes.weight_carbon.copy()
    for n, placements in enumerate(plan):
        outcome = simulator.step(placements).outcome
        if first <= n <= last:
            total += cost_mg(outcome, PRICE, weight)
    return total


@pytest.mark.parametrize("lookahead", [0, 1, 3, 20])
def test_cost_to_go_is_what_playing_it_out_gives(short, lookahead):
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    rng = np.random.default_rng(0)
    visited, followed = rng.integers(2, size=(2, 7, TAPES))
    label = CostToGo(short, tape, lookahead, lambda n, o, m: np.tile(followed[n], 2))
    simulator = start(short, tape)
    seen = 0
    for n in range(7):
        got = label(simulator, n, PRICE)
        for a in (0, 1):
            plan = np.concatenate([visited[:n], np.full((1, TAPES), a), followed[n + 1 :]])
            np.testing.assert_allclose(got[:, a], played(short, tape, plan, n, n + lookahead), rtol=1e-12)
        seen += len(np.unique(np.round(got, 9)))
        simulator.step(visited[n])
    assert seen > 7, "all costs alike would prove nothing"
    assert label.simulated == TAPES * 2 * (1 + lookahead)


def test_labelling_changes_nothing(short):
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    plan = np.ones((7, TAPES), dtype=np.int64)
    label = CostToGo(short, tape, 4, lambda n, o, m: np.tile(plan[n], 2))
    plain, labelled = start(short, tape), start(short, tape)
    for n in range(7):
        label(labelled, n, PRICE)
        np.testing.assert_array_equal(plain.step(plan[n]).observation, labelled.step(plan[n]).observation)


def test_the_learner_is_asked_about_its_own_copies(short):
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    simulator, asked = start(short, tape), []

    def learner(n, observation, mask):
        asked.append((n, observation.copy()))
        return (observation[:, 0] > np.median(observation[:, 0])).astype(np.int64)

    CostToGo(short, tape, 2, learner)(simulator, 0, PRICE)
    assert [n for n, _ in asked] == [1, 2]
    for a in (0, 1):  # what the copies saw after placement a is what the simulator gives
        own = start(short, tape).step(np.full(TAPES, a)).observation
        np.testing.assert_array_equal(asked[0][1][a * TAPES : (a + 1) * TAPES], own)


def test_dual_price_makes_the_priced_optimum_the_budget_optimum():
    """Brute force over all plans of six requests and two placements."""
    rng = np.random.default_rng(3)
    for allowed in (0, 1, 2, 5):
        carbon, latency = rng.random((6, 2)), rng.integers(90, 110, (6, 2)) * 1.0
        latency[:, 0] = 90.0  # one placement always keeps the SLO
        missed = latency > 100
        saving = np.where(missed, np.inf, carbon).min(axis=1) - carbon.min(axis=1)
        (dual,) = budget_dual_mg(saving[:, None], np.array([allowed]))
        best, priced = np.inf, np.inf
        for plan in itertools.product((0, 1), repeat=6):
            cost, misses = carbon[range(6), plan].sum(), missed[range(6), plan].sum()
            best = min(best, cost) if misses <= allowed else best
            priced = min(priced, cost + dual * (misses - allowed))
        assert priced == pytest.approx(best)
        assert best == pytest.approx(solve_budget(carbon, latency, 100, 1 - (allowed + 0.5) / 6).carbon_mg)


def test_no_dual_where_what_cannot_be_kept_uses_the_budget_up():
    saving = np.array([[np.inf, 0.5], [np.inf, 0.2], [0.3, 0.1]])
    np.testing.assert_array_equal(budget_dual_mg(saving, np.array([1, 1])), [np.nan, 0.2])


def test_price_of_tapes_without_a_dual_is_the_others_median(short):
    price = MissPrice(short, config(factor=2.0, lowest_mg=1.5))
    reward = np.full(4, 9.0)
    dual = np.array([np.nan, 1.0, 3.0, 0.0])
    np.testing.assert_allclose(price.by_tape(reward, dual), [2.0, 2.0, 6.0, 1.5])
    np.testing.assert_allclose(price.by_tape(reward, np.full(4, np.nan)), 18.0)
    own = MissPrice(short, config(source="reward"))
    np.testing.assert_allclose(own.by_tape(reward, None), 9.0)


def test_a_miss_is_dearer_while_misses_run_ahead(short):
    price = MissPrice(short, config(budget_gain=2.0))
    table = Simulator(short, 1).table
    observation = np.zeros((2, len(table)), np.float32)
    for name, values in (("slo_budget_spent", [0.9, 0.1]), ("progress", [0.5, 0.5])):
        observation[:, table.index[name]] = np.array(values) / table.scale[table.index[name]]
    np.testing.assert_allclose(price.at(np.array([1.0, 1.0]), observation), np.exp([0.8, -0.8]), rtol=1e-6)


def test_the_factor_follows_the_misses(short):
    price = MissPrice(short, config())
    price.adapt(2 * 0.7 * 0.2, quantile=0.8)  # twice the target
    assert price.factor == pytest.approx(np.exp(0.5))
    price.adapt(0.7 * 0.2, quantile=0.8)
    assert price.factor == pytest.approx(np.exp(0.5))
    price.adapt(1.0, quantile=0.8)  # far above: one step is bounded
    assert price.factor == pytest.approx(np.exp(1.0))


def test_hindsight_gives_a_plan_that_the_oracle_stands_for(short):
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    known = hindsight(short, tape, "oracle-budget")
    assert known.plan.shape == (7, TAPES)
    np.testing.assert_array_equal(known.dual_mg, duals_mg(short, tape, known.plan))


def test_lessons_hold_costs_values_and_whole_tapes(short):
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    plan = np.ones((7, TAPES), dtype=np.int64)
    label = CostToGo(short, tape, 0, None)
    price, unit = MissPrice(short, config(source="reward")), LabelUnit(short, "mg")
    collector = Collector(short, price, unit, gamma=0.5)
    rng = np.random.default_rng(0)
    done = collector.collect(tape, lambda n, o, m: plan[n], label, None, every=2, explore=0.0, rng=rng)
    lessons = done.lessons
    first = int(np.random.default_rng(0).integers(2))
    times = np.arange(first, 7, 2)
    assert len(lessons) == len(times) * TAPES
    simulator, rewards = start(short, tape), np.zeros((7, TAPES))
    price, missed = short.reward.slo_miss / short.reward.carbon_per_mg, 0
    weight = simulator.state.episodes.weight_carbon.copy()
    costs = []
    for n in range(7):
        costs.append(np.stack([cost_mg(o, price, weight) for o in simulator.preview()], axis=1))
        outcome = simulator.step(plan[n]).outcome
        rewards[n], missed = outcome.reward, missed + outcome.missed.sum()
    np.testing.assert_allclose(lessons.cost_mg, np.concatenate([costs[n] for n in times]), rtol=1e-5)
    ahead = rewards.mean(axis=0) / 0.5
    for n in range(6, -1, -1):
        ahead = rewards[n] + 0.5 * ahead
        if n in times:
            row = list(times).index(n) * TAPES
            np.testing.assert_allclose(lessons.value[row : row + TAPES], ahead, rtol=1e-5)
    assert done.miss_rate == missed / (7 * TAPES)
    assert done.simulated == 7 * TAPES + len(times) * label.simulated
    learned, held_out = lessons.split(0.3)
    assert set(learned.tape) | set(held_out.tape) == {0, 1, 2}
    assert not set(learned.tape) & set(held_out.tape)
    np.testing.assert_array_equal(discounted(rewards, 0.0), rewards)


def test_only_training_tapes_can_be_drawn(short):
    with pytest.raises(InputError, match="training tapes only, got part 'evaluation'"):
        TeachingTapes(short, 1, part="evaluation")
    tapes = TeachingTapes(short, 1)
    assert not set(tapes.held_back(50)) & set(tapes._seeds(0x7465616368, 50, 0))
    one, other = tapes.draw(0, 4), tapes.draw(1, 4)
    assert not np.array_equal(one.payload_kb, other.payload_kb)


def test_labels_need_a_weight_of_carbon(tiny_scenario):
    with pytest.raises(InputError, match=r"reward\.carbon_per_mg must be above 0, got 0"):
        check_weights(tiny_scenario(reward={"carbon_per_mg": 0}))
