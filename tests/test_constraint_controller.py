"""The controller of a miss's price: it finds the price, keeps its bounds and does not wind up."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.agents.constraint import FILE, PidLagrangian
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_settings import ConstraintConfig
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.schema import Slo

SLO = Slo(latency_ms=150, quantile=0.95)
WINDOW = 1000


def settings(**changes) -> ConstraintConfig:
    shipped = load_training_config("ppo", "x", "x")[0].constraint
    assert shipped is not None
    own = {"start": 4.0, "update_steps": WINDOW, "target_share": 0.5}
    return ConstraintConfig(**{**shipped.model_dump(), **own, **changes})


def window(constraint: PidLagrangian, miss_rate: float) -> float:
    """One whole window of this share of misses; returns the multiplier after it."""
    missed = round(miss_rate * WINDOW)
    constraint.count(missed, missed, WINDOW)
    assert constraint.end_window()
    return constraint.multiplier


class Plant:
    """A learner that follows the price with a lag: it misses less the dearer a miss is."""

    def __init__(self, right_price: float, seed: int, noise: float = 0.2) -> None:
        self.right_price, self.noise = right_price, noise
        self.rng, self.miss_rate = np.random.default_rng(seed), 0.25  # it begins without a clue

    def step(self, price: float, target: float) -> float:
        aimed = min(target * self.right_price / price, 0.3)
        self.miss_rate += 0.15 * (aimed - self.miss_rate)
        return float(np.clip(self.miss_rate * math.exp(self.noise * self.rng.normal()), 0, 1))


@pytest.mark.parametrize("right_price", [0.5, 3.0, 20.0])
def test_it_finds_the_right_price_wherever_that_lies(right_price):
    constraint, plant = PidLagrangian(settings(), SLO), Plant(right_price, seed=1)
    seen = []
    for _ in range(400):
        seen.append(
            (window(constraint, plant.step(constraint.multiplier, constraint.target)), plant.miss_rate)
        )
    prices, rates = np.array(seen[250:]).T
    assert rates.mean() == pytest.approx(constraint.target, rel=0.1)
    assert np.exp(np.log(prices).mean()) == pytest.approx(right_price, rel=0.2)
    assert prices.max() < 2.5 * right_price, "it must come to rest, not swing"


def test_the_target_lies_below_what_the_slo_allows():
    constraint = PidLagrangian(settings(target_share=0.7), SLO)
    assert constraint.target == pytest.approx(0.035)
    assert constraint.miss_rate is None
    window(constraint, 0.1)
    assert constraint.miss_rate == 0.1


def test_a_hopeless_stretch_does_not_wind_it_up():
    """200 windows in which no price helps: as soon as one does, the multiplier leaves its bound."""
    constraint = PidLagrangian(settings(highest=50), SLO)
    rng = np.random.default_rng(2)
    for _ in range(200):
        window(constraint, rng.uniform(0.19, 0.21))
    assert constraint.multiplier == pytest.approx(50)
    after = [window(constraint, 0.0) for _ in range(12)]
    assert after[3] < 50
    assert after[-1] < 50 / math.e


def test_it_waits_while_the_policy_is_still_learning():
    """At the start of a run the share falls by itself; a price that grew meanwhile would freeze the policy."""
    constraint = PidLagrangian(settings(start=4), SLO)
    first = window(constraint, 0.30)
    falling = [window(constraint, rate) for rate in np.linspace(0.29, 0.08, 40)]
    assert max(falling) <= first + 1e-9
    rising = [window(constraint, 0.2) for _ in range(10)]
    assert rising[-1] > 2 * first


def test_the_proportional_part_answers_at_once_and_growth_is_damped():
    quiet = settings(ki=0, kd=0, kp=0.5, smoothing=0, error_limit=1, target_share=0.8)
    constraint = PidLagrangian(quiet, SLO)
    assert window(constraint, constraint.target) == pytest.approx(quiet.start)
    assert window(constraint, 1.5 * constraint.target) == pytest.approx(quiet.start * math.exp(0.25))
    assert window(constraint, 1.0) == pytest.approx(quiet.start * math.exp(0.5)), "the error is bounded"
    growing = PidLagrangian(settings(ki=0, kp=0, kd=1, smoothing=0, target_share=0.8), SLO)
    window(growing, 0.01)
    assert window(growing, 0.01 + growing.target / 2) == pytest.approx(quiet.start * math.exp(0.5))
    assert window(growing, 0.01) == pytest.approx(quiet.start), "falling counts nothing"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_it_is_always_between_its_bounds(rates):
    constraint = PidLagrangian(settings(lowest=0.5, highest=9), SLO)
    for rate in rates:
        assert 0.5 - 1e-9 <= window(constraint, rate) <= 9 + 1e-9


def test_it_moves_at_the_end_of_a_window_only():
    constraint = PidLagrangian(settings(), SLO)
    constraint.count(100, 100, WINDOW - 1)
    assert not constraint.end_window()
    assert constraint.multiplier == settings().start
    constraint.count(0, 0, 1)
    assert constraint.end_window()
    assert constraint.miss_rate == pytest.approx(0.1)


def test_a_checkpoint_restores_it_to_the_last_bit(tmp_path):
    constraint = PidLagrangian(settings(), SLO)
    for rate in (0.2, 0.04, 0.07):
        window(constraint, rate)
    constraint.count(3, 4.5, 200)
    constraint.save(tmp_path)
    again = PidLagrangian(settings(), SLO)
    again.load(tmp_path)
    assert again.state() == constraint.state()
    assert again.multiplier == constraint.multiplier != settings().start
    for one in (constraint, again):
        one.count(7, 2.5, WINDOW - 200)
        assert one.end_window()
    assert again.multiplier == constraint.multiplier


@pytest.mark.parametrize("text", ["", "{}", '{"multiplier": "much"}', "[1]"])
def test_a_damaged_state_is_refused(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match="does not hold the constraint's state"):
        PidLagrangian(settings(), SLO).load(tmp_path)


def test_the_state_is_plain_json(tmp_path):
    PidLagrangian(settings(), SLO).save(tmp_path)
    assert json.loads((tmp_path / FILE).read_text())["schema"] == "carbonpilot/constraint/1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 200.0}, r"start \(200.0\) must lie between lowest"),
        ({"target_share": 0.0}, "target_share: must be > 0"),
        ({"target_shar": 0.5}, "constraint.target_shar: unknown key.*'target_share'"),
        (
            {"target_share": None, "target_share_alone": None},
            "target_share: null takes target_share_alone or, over",
        ),
        ({"kp": -1.0}, "constraint.kp: must be >= 0"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(InputError, match=message):
        load_training_config("ppo", "x", "x", changes={"constraint": change})


def test_a_target_that_is_left_open_is_that_of_the_agent_with_or_without_a_head():
    open_ = settings(target_share=None, target_share_alone=0.2, target_share_over_head=0.6)
    assert PidLagrangian(open_, SLO).target == pytest.approx(0.2 * (1 - SLO.quantile))
    assert PidLagrangian(open_, SLO, over_head=True).target == pytest.approx(0.6 * (1 - SLO.quantile))
    given = open_.model_copy(update={"target_share": 0.3})
    assert {given.aim(True), given.aim(False)} == {0.3}


def test_misses_that_an_episode_cannot_afford_weigh_more():
    """Two windows with the same share of misses: the one whose misses lie in bad episodes is the dearer one."""
    even, uneven = (PidLagrangian(settings(target_share=0.7), SLO) for _ in range(2))
    for _ in range(5):
        even.count(35, 35.0, WINDOW)
        uneven.count(35, 90.0, WINDOW)
        assert even.end_window()
        assert uneven.end_window()
    assert even.multiplier == pytest.approx(settings().start, rel=0.02)
    assert uneven.multiplier > 1.3 * settings().start
    assert (uneven.miss_rate, uneven.weighted_rate) == (0.035, 0.09)
