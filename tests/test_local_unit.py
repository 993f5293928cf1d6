"""Clean and dirty episodes weigh the same: on the tapes of a price's search and in the labels of a teacher."""

import numpy as np
import pytest

from carbonpilot.agents.baselines import Always
from carbonpilot.agents.local_unit import LEAST_UNIT, local_units
from carbonpilot.agents.risk.tape_units import TapeUnits
from carbonpilot.agents.teach.cost_to_go import CostToGo
from carbonpilot.agents.teach.costs import LabelUnit, MissPrice, cost_mg
from carbonpilot.agents.teach.lessons import Collector
from carbonpilot.agents.teach.settings import MissPriceConfig
from carbonpilot.agents.teach.tapes import TeachingTapes
from carbonpilot.agents.tune_evaluate import Scores
from carbonpilot.agents.tune_workers import Players
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.simulator import Simulator

TAPES, REQUESTS = 24, 20
PRICE = MissPriceConfig(
    source="reward", factor=0.5, lowest_mg=0.0, budget_gain=0.0, target_share=0.5, adapt=0.0
)


@pytest.fixture(scope="module")
def site():
    """The flagship, whose device stands in grids from clean to dirty, with short episodes."""
    scenario = load_scenario("metro")
    return scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"requests": REQUESTS})})


def test_units_are_shares_of_the_mean():
    np.testing.assert_allclose(local_units(np.array([1.0, 2.0, 3.0])), [0.5, 1.0, 1.5])


def test_a_grid_that_emits_next_to_nothing_does_not_make_everything_else_infinitely_dear():
    assert local_units(np.array([0.0, 4.0]))[0] == LEAST_UNIT
    np.testing.assert_array_equal(local_units(np.zeros(3)), np.ones(3))


def always(placement):
    return lambda scenario, parameters: Always("always", placement)


def test_always_local_is_the_same_on_every_tape_and_carbon_of_others_keeps_its_ratio_to_it(site):
    with Players(site, np.arange(TAPES)) as players:
        units = TapeUnits(players)
        local, edge = (players.score(always(placement), [{}]) for placement in (0, 1))
    spread = local.carbon_mg.max() / local.carbon_mg.min()
    assert spread > 3, "grids differ"
    scaled, plain = units.scaled(local).carbon_mg[0], units.unit > LEAST_UNIT
    assert 0 < (~plain).sum() < 3, "a device or two that emit next to nothing"
    np.testing.assert_allclose(scaled[plain], local.carbon_mg.mean())
    assert (scaled[~plain] < local.carbon_mg.mean()).all()
    ratio = units.scaled(edge).carbon_mg / scaled
    np.testing.assert_allclose(ratio, edge.carbon_mg / local.carbon_mg)
    np.testing.assert_array_equal(units.scaled(edge).misses, edge.misses)


def test_a_tenth_that_is_wasted_on_clean_tapes_is_as_bad_as_one_on_dirty_tapes(site):
    with Players(site, np.arange(TAPES)) as players:
        units = TapeUnits(players)
        local = players.score(always(0), [{}])
    carbon = local.carbon_mg[0].clip(2 * LEAST_UNIT * local.carbon_mg.mean())
    units.unit = local_units(carbon)
    clean = carbon < np.median(carbon)
    wasted = Scores(
        np.stack([carbon * np.where(clean, 1.1, 1.0), carbon * np.where(clean, 1.0, 1.1)]),
        np.repeat(local.misses, 2, axis=0),
        np.repeat(local.allowed, 2, axis=0),
    )
    on_clean, on_dirty = wasted.mean_carbon_mg / carbon.mean() - 1
    assert on_dirty > 2 * on_clean, "a mean of mg hardly sees the former"
    on_clean, on_dirty = units.scaled(wasted).mean_carbon_mg / carbon.mean() - 1
    assert on_clean == pytest.approx(on_dirty) == pytest.approx(0.05)


@pytest.mark.parametrize("labels_in", ["mg", "local"])
def test_labels_in_local_requests_are_those_in_mg_over_the_believed_carbon_of_one(site, labels_in):
    tape = TeachingTapes(site, 1).draw(0, TAPES)
    unit = LabelUnit(site, labels_in)
    collector = Collector(site, MissPrice(site, PRICE), unit, gamma=0.5)
    label, local = CostToGo(site, tape, 0, None), np.zeros(TAPES, np.int64)
    rng = np.random.default_rng(0)
    lessons = collector.collect(tape, lambda n, o, m: local, label, None, 1, 0.0, rng).lessons
    simulator = Simulator(site, TAPES)
    observation = simulator.reset_tape(tape)
    price_mg = 0.5 * site.reward.slo_miss / site.reward.carbon_per_mg
    weight = simulator.state.episodes.weight_carbon.copy()
    spread = []
    for n in range(REQUESTS):
        factor = unit.at(observation)
        spread.append(factor.max() / factor.min())
        outcomes = simulator.preview()
        expected = np.stack([cost_mg(o, factor * price_mg, weight) for o in outcomes], axis=1)
        rows = slice(n * TAPES, (n + 1) * TAPES)
        np.testing.assert_allclose(lessons.cost_mg[rows], expected / factor[:, None], rtol=1e-4)
        observation = simulator.step(local).observation
    assert (np.array(spread) > 2).all() == (labels_in == "local")
