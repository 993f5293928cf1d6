"""A head that was made on one site gets a price on another: it stays, price and caution are searched, costs add up."""

import numpy as np
import pytest
from risk_builder import make_risk
from test_risk_training import TINY
from typer.testing import CliRunner

from carbonpilot.agents.risk.fit import cautious, logits_of
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.risk.train import run_risk_training
from carbonpilot.agents.training_cost import risk_parts, total_cost
from carbonpilot.cli import app
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, scenario_yaml
from carbonpilot.envs.simulator import Simulator


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Two short sites of the family: where the head is made, and a busier one where it is priced."""
    folder, found = tmp_path_factory.mktemp("sites"), []
    for name in ("metro", "metro-wide"):
        scenario = load_scenario(name)
        short = scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"requests": 60})})
        (folder / f"{name}.yaml").write_text(scenario_yaml(short))
        found.append(str(folder / f"{name}.yaml"))
    return found


@pytest.fixture(scope="module")
def priced(sites, tmp_path_factory):
    """The folder of the head, and the one with the new price."""
    folder = tmp_path_factory.mktemp("risk")
    first = run_risk_training(sites[1], folder / "first", seed=1, changes=TINY | {"price_on": sites[1]})
    said = []
    second = run_risk_training(sites[0], folder / "second", seed=1, head=first, changes=TINY, say=said.append)
    assert [line.split(":")[0] for line in said] == [
        "rule slo-predictive-budget",
        "final price",
        "calibration error on fresh tapes",
    ]
    return first, second


def test_the_head_stays_and_only_the_devices_caution_moves(sites, priced):
    first, second = (read_risk(folder) for folder in priced)
    observation = Simulator(load_scenario(sites[0]), 50).reset(np.arange(50))
    logits = [logits_of(risk.arrays, observation) for risk in (first, second)]
    assert (logits[0][:, 1:] == logits[1][:, 1:]).all()
    plain = [
        (logit[:, 0] - risk.card.caution["shift"]) / risk.card.caution["slope"]
        for logit, risk in zip(logits, (first, second), strict=True)
    ]
    assert plain[0] == pytest.approx(plain[1], abs=1e-4)


def test_the_card_says_where_the_head_is_from_and_both_costs_are_counted(priced):
    first, second = (read_risk(folder).card for folder in priced)
    made = second.training["head"]
    assert (second.scenario, made["scenario"]) == ("metro", "metro-wide")
    assert made["files"] == first.files
    cost = total_cost(risk_parts(second.training))
    own, before = second.training["emissions"], first.training["emissions"]
    assert cost["emissions_g"] == pytest.approx(own["emissions_g"] + before["emissions_g"])
    assert cost["seconds"] == pytest.approx(own["duration_s"] + before["duration_s"])
    assert [part["what"] for part in cost["parts"]] == ["risk head and price", "new price of the risk head"]


def test_a_price_on_another_site_leaves_the_head_as_it_is(sites, priced, tmp_path):
    changes = TINY | {"price_on": sites[0]}
    both = read_risk(run_risk_training(sites[1], tmp_path / "both", seed=1, changes=changes))
    first = read_risk(priced[0])
    observation = Simulator(load_scenario(sites[0]), 50).reset(np.arange(50))
    logits = [logits_of(risk.arrays, observation) for risk in (first, both)]
    assert (logits[0][:, 1:] == logits[1][:, 1:]).all()
    assert both.card.scenario == first.card.scenario == "metro-wide"
    searched = [risk.card.training["price_search"] for risk in (first, both)]
    assert [search["scenario"] for search in searched] == ["metro-wide", "metro"]
    assert searched[0]["fresh_mg_per_request"] != searched[1]["fresh_mg_per_request"]


@pytest.mark.parametrize(
    ("site", "says"),
    [("metro-b4", "price_on: 'metro-b4' is of family"), ("metro-heldout", "held out"), ("metrö", "metrö")],
)
def test_a_site_that_cannot_price_is_refused(sites, tmp_path, site, says):
    with pytest.raises(InputError, match=says):
        run_risk_training(sites[1], tmp_path / "no", changes=TINY | {"price_on": site})
    assert not (tmp_path / "no").exists()


def test_caution_can_be_taken_back(priced):
    arrays = read_risk(priced[0]).arrays
    observation = np.random.default_rng(0).normal(size=(20, len(arrays["mean"]))).astype(np.float32)
    back = cautious(cautious(arrays, 2.5, -1.5), 1 / 2.5, 1.5 / 2.5)
    assert logits_of(back, observation) == pytest.approx(logits_of(arrays, observation), rel=1e-4, abs=1e-4)


def test_a_head_of_other_placements_or_settings_of_a_fit_are_refused(priced, tmp_path):
    with pytest.raises(InputError, match="was made for scenario 'metro-wide' of family 'metro'"):
        run_risk_training("metro-b4", tmp_path / "no", head=priced[0], changes=TINY)
    make_risk(tmp_path / "head", load_scenario("metro"))
    asked = ["risk", "train", "metro", "--head", str(tmp_path / "head"), "--out", str(tmp_path / "no")]
    done = CliRunner().invoke(app, [*asked, "--rounds", "1"])
    assert done.exit_code != 0
    assert "leave --rounds and --episodes out" in str(done.exception) + done.output
    assert not (tmp_path / "no").exists()
