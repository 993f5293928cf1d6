"""What the card of a bundle says of its training's cost and of what it must not be used for."""

import json
import sys

import pytest
from risk_builder import make_risk

from carbonpilot import cli
from carbonpilot.agents.bundle import read_card
from carbonpilot.agents.card_limits import ALWAYS, must_not_be_used_for
from carbonpilot.agents.card_text import card_lines
from carbonpilot.agents.export import export_run
from carbonpilot.agents.export_risk import export_risk
from carbonpilot.agents.training_cost import cost_line, risk_part, total_cost
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios

TRAINED = {"what": "training run", "seconds": 100.0, "energy_kwh": 0.002, "emissions_g": 0.4}
HEAD = {"what": "risk head and price", "seconds": 300.0, "energy_kwh": 0.004, "emissions_g": 0.8}


def test_all_parts_are_added_up():
    cost = total_cost([TRAINED, HEAD])
    assert (cost["seconds"], cost["energy_kwh"], cost["emissions_g"]) == pytest.approx((400.0, 0.006, 1.2))
    assert (cost["unknown"], cost["at_least"], len(cost["parts"])) == ([], {}, 2)
    assert cost_line(cost) == "training cost: 400 s, 6.00 Wh, 1.20 g CO2 (training run + risk head and price)"


def test_what_is_unknown_is_said_and_never_zero():
    older = risk_part({"seconds": 300.0})  # a head from before its making was measured
    assert older == {**HEAD, "energy_kwh": None, "emissions_g": None}
    cost = total_cost([TRAINED, older])
    assert (cost["seconds"], cost["energy_kwh"], cost["emissions_g"]) == (400.0, None, None)
    assert cost["at_least"] == {"energy_kwh": 0.002, "emissions_g": 0.4}
    assert cost["unknown"] == ["kWh of risk head and price", "g CO2 of risk head and price"]
    line = cost_line(cost)
    assert line.startswith("training cost: 400 s, at least 0.002 kWh, at least 0.4 g CO2, unknown: kWh of")
    nothing = total_cost([risk_part({})])
    assert (nothing["seconds"], nothing["at_least"]) == (None, {})
    assert "unknown: s of risk head and price" in cost_line(nothing)
    assert total_cost([])["seconds"] is None
    assert cost_line(None) == "training cost: unknown"


def test_a_head_says_what_measured_it():
    emissions = {"duration_s": 310.0, "energy_kwh": 0.004, "emissions_g": 0.8, "country_iso_code": "GBR"}
    part = risk_part(
        {"seconds": 300.0, "emissions": emissions | {"carbon_g_per_kwh": 200.0, "method": ["CPU"]}}
    )
    assert part["seconds"] == 310.0
    assert (part["country_iso_code"], part["method"]) == ("GBR", ["CPU"])


def test_a_run_and_its_head_are_in_the_card(lab, tmp_path):
    site = lab.site(tmp_path)
    head = make_risk(tmp_path / "head", load_scenario(site))
    lab.train(site, tmp_path / "run", 256, risk=head)
    emissions = json.loads((tmp_path / "run" / "emissions.json").read_text())
    cost = read_card(export_run(tmp_path / "run", tmp_path / "bundle"))["training"]["cost"]
    run, risk = cost["parts"]
    assert (run["what"], run["emissions_g"], run["sessions"]) == ("training run", emissions["emissions_g"], 1)
    assert run["method"] == emissions["sessions"][0]["method"]
    assert (risk["seconds"], risk["emissions_g"]) == (1.5, None)
    assert cost["seconds"] == pytest.approx(emissions["duration_s"] + 1.5)
    assert (cost["emissions_g"], cost["at_least"]["emissions_g"]) == (None, emissions["emissions_g"])


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_site_has_its_limits(name):
    scenario = load_scenario(name)
    limits = must_not_be_used_for(scenario, knows_dial=False)
    assert limits[-len(ALWAYS) :] == list(ALWAYS)
    text = "\n".join(limits)
    assert all(p.name in text and p.node in text for p in scenario.placements)
    assert all(f"{link} as it was trained" in text for link in scenario.links)
    assert f"{scenario.slo.latency_ms:g} ms" in text
    assert "without the run-time shield" in text
    assert all(limit.endswith(".") for limit in limits)
    assert "None" not in text
    assert "position" not in "\n".join(must_not_be_used_for(scenario, knows_dial=True))


def test_ranges_are_those_of_the_training():
    text = "\n".join(must_not_be_used_for(load_scenario("metro-wide"), knows_dial=False, finished=False))
    for words in (
        "its training had not finished",
        "Rates outside 6 to 15 requests a second",
        "Payloads outside 15 to 110 kB",
        "median uplink 25 to 120 Mbit/s",
        "edge mean 0.05 to 0.85 and bursts up to 0.4 more",
        "0.95 to 1.2 times the measured",
        "Other positions of the dial",
        "city the same as home",
    ):
        assert words in text, words


def test_the_command_shows_it_all(tmp_path, monkeypatch, capsys):
    metro = load_scenario("metro")
    folder = export_risk(make_risk(tmp_path / "head", metro), tmp_path / "bundle", metro)
    monkeypatch.setattr(sys, "argv", ["carbonpilot", "card", str(folder)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    said = capsys.readouterr().out
    for words in (
        "learned-risk for metro",
        "risk head 16-16",
        "cost: 1.5 s, unknown",
        "scores: none yet",
        "must not be",
    ):
        assert words in said


def test_scores_and_stages_are_in_the_text():
    missed = {"mean": 0.02, "ci95": [0.01, 0.03]}
    card = {
        "algorithm": "ppo", "scenario": "metro", "scenario_family": "metro", "seed": 1, "actions": ["a", "b"],
        "network": {"layers": [5, 64, 64, 2]}, "risk": None,
        "training": {"command": "carbonpilot train", "commit": "abc", "steps": 0, "stages": {"handed_out": "dagger"}},
        "scores": {"metro": {"episodes": 100, "part": "evaluation", "slo_miss_rate": missed}},
    }  # fmt: skip
    text = "\n".join(card_lines(card))
    assert "network 64-64" in text
    assert "the model after the stage 'dagger'" in text
    assert "on metro, 100 evaluation tapes: 2.00% missed [1.00%, 3.00%]" in text
    assert "training cost: unknown" in text
    assert "unknown: the card is from before this was noted" in text
