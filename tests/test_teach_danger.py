"""The price of a miss by how near a tape comes to breaking the objective."""

import numpy as np
import pytest
from pydantic import ValidationError
from test_teach_labels import TAPES, config, short  # noqa: F401  # `short` is a fixture

from carbonpilot.agents.teach.cost_to_go import CostToGo
from carbonpilot.agents.teach.costs import LabelUnit, MissPrice
from carbonpilot.agents.teach.danger import budget_spent, danger_share
from carbonpilot.agents.teach.lessons import Collector
from carbonpilot.agents.teach.settings import DangerConfig
from carbonpilot.agents.teach.tapes import TeachingTapes
from carbonpilot.oracle.replay import start

DANGER = DangerConfig(at=0.8, width=0.15, least=0.06, lost=1.6)


def test_what_a_tape_spends_is_counted_to_its_end(short):  # noqa: F811
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    plan = np.random.default_rng(3).integers(2, size=(7, TAPES))
    spent = budget_spent(short, tape, lambda n, observation, mask: plan[n])
    simulator = start(short, tape)
    missed = sum(simulator.step(placements).outcome.missed.astype(int) for placements in plan)
    assert missed.sum() > 0, "else nothing is shown"
    np.testing.assert_allclose(spent.share, missed / (0.2 * 7))  # a fifth of the seven requests may miss
    assert spent.played == 7 * TAPES


def test_a_miss_is_dear_where_it_may_decide():
    spent = np.linspace(0.0, 4.0, 401)
    share = danger_share(spent, DANGER)
    assert danger_share(np.array([0.8]), DANGER)[0] == pytest.approx(0.06 + 0.5, abs=0.01)
    top = int(share.argmax())
    assert spent[top] == pytest.approx(1.2)  # midway between danger and despair
    assert (np.diff(share[: top + 1]) > 0).all(), "it rises while the budget runs out"
    assert (np.diff(share[top:]) < 0).all(), "and falls where nothing can be rescued"
    assert share[0] == pytest.approx(0.06, abs=0.01)
    assert share[-1] == pytest.approx(0.06, abs=0.01)
    assert share[top] == pytest.approx(0.06 + 1, abs=0.15)


def test_the_price_of_a_tape_is_its_share_and_never_below_the_least(short):  # noqa: F811
    price = MissPrice(short, config(source="reward", factor=2.0, lowest_mg=1.5))
    reward, danger = np.full(3, 9.0), np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(price.by_tape(reward, None, danger), [1.5, 9.0, 18.0])
    np.testing.assert_allclose(price.by_tape(reward, None), 18.0)


def test_labels_count_a_miss_at_the_price_of_its_tape(short):  # noqa: F811
    tape = TeachingTapes(short, 1).draw(0, TAPES)
    collector = Collector(short, MissPrice(short, config(source="reward")), LabelUnit(short, "mg"), gamma=0.5)

    def costs(danger):
        label, plan = CostToGo(short, tape, 0, None), np.ones((7, TAPES), dtype=np.int64)
        rng = np.random.default_rng(0)
        done = collector.collect(tape, lambda n, o, m: plan[n], label, None, 1, 0.0, rng, danger)
        return done.lessons.cost_mg.reshape(7, TAPES, -1)

    whole = short.reward.slo_miss / short.reward.carbon_per_mg
    free, first = costs(np.zeros(TAPES)), costs(np.array([1.0, 0.0, 0.5]))
    added = (first - free) / whole
    np.testing.assert_allclose(added[:, 1], 0.0, atol=1e-5)
    assert set(np.round(added[:, 0].ravel(), 4)) == {0.0, 1.0}, "the price of a miss or nothing"
    assert set(np.round(added[:, 2].ravel(), 4)) == {0.0, 0.5}, "half of it"
    np.testing.assert_allclose(costs(None), costs(np.ones(TAPES)), rtol=1e-6)


def test_danger_that_ends_before_it_begins_is_refused():
    values = {**DANGER.model_dump(), "lost": 0.7}
    with pytest.raises(ValidationError, match=r"lost \(0.7\) must be above at \(0.8\)"):
        DangerConfig(**values)
