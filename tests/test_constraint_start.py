"""Where the constraint's multiplier starts: as set, as the risk head's price has it, or at a guess."""

from __future__ import annotations

import json

import numpy as np
import pytest
from risk_builder import make_risk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from carbonpilot.agents import constraint_start as module
from carbonpilot.agents.constraint_start import constraint_start, tuned_multiplier
from carbonpilot.agents.risk.folder import read_risk_for
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.envs.dial import scenario_at
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario

# A price that is one number (nearly: locals cannot be left out), whatever has been missed.
PLAIN = {"miss_price_mg": 3.0, "miss_price_locals": 0.05, "budget_gain": 0.0, "shield_misses": 0.0}


def settings(**changes):
    return load_training_config("ppo", "x", "x", changes={"constraint": changes})[0].constraint


@pytest.fixture(scope="module")
def scenario():
    metro = load_scenario("metro")
    return metro.model_copy(update={"episode": metro.episode.model_copy(update={"requests": 40})})


@pytest.fixture
def head(tmp_path, scenario):
    """A function: a risk head of random weights at a price."""

    def make(**price):
        folder = tmp_path / f"risk-{len(list(tmp_path.iterdir()))}"
        return read_risk_for(make_risk(folder, scenario, {**PLAIN, **price}), scenario)

    return make


@pytest.mark.parametrize(
    ("wish", "price_mg", "carbon_per_mg"), [(None, 0.5, 2), ("1,1,0", 2, 2), ("0.5,1,0", 4, 1)]
)
def test_a_price_that_is_one_number_is_found_in_units_of_reward(
    head, scenario, wish, price_mg, carbon_per_mg
):
    """Wishes: four times the price at the end of the latency's scale, twice all but carbon at half the wish."""
    site = scenario_at(scenario, wish)
    risk = head(miss_price_mg=0.48)  # and a twentieth of a local request's 0.4 mg
    found = tuned_multiplier(settings(budget_gain=0), site, risk, 0, None)
    assert site.reward.carbon_per_mg == pytest.approx(carbon_per_mg)
    assert found == pytest.approx(price_mg * carbon_per_mg, rel=0.15)


def test_drawn_wishes_do_not_move_it(head, scenario):
    """The multiplier is the price at the scenario's own position; the reward moves it with the dial."""
    drawn = scenario_at(scenario, "sampled")
    found = tuned_multiplier(
        settings(budget_gain=0, highest=100), drawn, head(accuracy_price_mg=0.0), 0, None
    )
    dear = tuned_multiplier(settings(budget_gain=0, highest=100), drawn, head(miss_price_mg=12.0), 0, None)
    assert found < 6 * 1.1, "what a late answer loses in accuracy is in the reward already"
    assert dear > 1.5 * found


def test_it_follows_the_price_within_the_constraints_bounds(head, scenario):
    found = [
        tuned_multiplier(settings(), scenario, head(miss_price_mg=mg), 0, None)
        for mg in (0.5, 2.0, 8.0, 90.0)
    ]
    assert found == sorted(found)
    assert found[0] < found[1] < found[2]
    assert found[3] == pytest.approx(settings().highest, rel=1e-3)


def test_careful_heads_start_dearer(head, scenario):
    """A shield that looks at risk alone has no price; the multiplier must be such that as little is risked."""
    bold = tuned_multiplier(settings(), scenario, head(), 0, None)
    careful = tuned_multiplier(settings(), scenario, head(shield_misses=20.0), 0, None)
    assert careful > bold


def test_only_training_tapes_are_played_and_the_seed_decides_which(head, scenario, monkeypatch):
    parts, original, risk = [], module.Simulator, head()
    monkeypatch.setattr(
        module, "Simulator", lambda *a, part, **k: parts.append(part) or original(*a, part=part, **k)
    )
    first, again, other = (tuned_multiplier(settings(), scenario, risk, seed, None) for seed in (1, 1, 2))
    assert first == again != other
    assert set(parts) == {"training"}


def test_what_is_set_holds_and_without_a_head_the_guess(head, scenario):
    risk = head()
    assert constraint_start(settings(start=7.5), scenario, risk, 0, None).multiplier == 7.5
    told = constraint_start(settings(), scenario, risk, 0, None)
    assert told.multiplier == tuned_multiplier(settings(), scenario, risk, 0, None)
    assert "tuned price" in told.why
    guessed = constraint_start(settings(start_guess=2.0), scenario, None, 0, None)
    assert guessed.multiplier == 2.0
    assert "start_guess" in guessed.why
    blind = scenario.model_copy(update={"reward": scenario.reward.model_copy(update={"carbon_per_mg": 0.0})})
    assert constraint_start(settings(start_guess=2.0), blind, risk, 0, None).multiplier == 2.0
    with pytest.raises(InputError, match="the reward counts no carbon"):
        constraint_start(settings(start_guess=None), blind, risk, 0, None)


@pytest.mark.parametrize("name", ["start", "start_guess"])
def test_a_start_outside_of_the_bounds_is_refused(name):
    with pytest.raises(
        InputError, match=rf"{name} \(50.0\) must lie between lowest \(0.1\) and highest \(30.0\)"
    ):
        settings(**{name: 50.0})


def test_a_training_that_cannot_start_is_refused_before_anything_is_written(lab, tmp_path):
    site = lab.site(tmp_path)
    with pytest.raises(InputError, match=r"constraint\.start: null takes the tuned price of a risk head"):
        lab.train(site, tmp_path / "run", 256, settings={"constraint": {"start_guess": None}})
    assert not (tmp_path / "run").exists()


def test_a_run_says_where_it_starts_and_a_resumed_one_goes_on(lab, tmp_path):
    site, run = lab.site(tmp_path), tmp_path / "run"
    risk = make_risk(tmp_path / "risk", load_scenario(site), PLAIN)
    constraint = {"update_steps": 256}
    _, text = lab.train(site, run, 256, settings={"constraint": constraint}, risk=risk)
    scenario = RunDir(run).scenario
    expected = tuned_multiplier(settings(**constraint), scenario, read_risk_for(risk, scenario), 5, None)
    assert f"at first a miss costs {expected:.3g} of reward: at this the risk head takes" in text
    [first] = EventAccumulator(str(run / "tb")).Reload().Scalars("constraint/multiplier")
    # One window has passed: at most kp + ki + kd times the bounded error.
    assert abs(np.log(first.value / expected)) < 0.71
    state = json.loads((RunDir(run).checkpoints()[-1].folder / "constraint.json").read_text())
    _, text = lab.train(site, run, 512, settings={"constraint": constraint}, risk=risk, resume=True)
    assert "at first a miss costs" not in text
    again = EventAccumulator(str(run / "tb")).Reload().Scalars("constraint/multiplier")[-1]
    assert abs(np.log(again.value / state["multiplier"])) < 0.71
