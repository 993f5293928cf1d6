"""The risk heads' calibration in the benchmark's report."""

import json
import shutil

import numpy as np
import pytest
from risk_builder import make_risk

from carbonpilot.agents import shipped
from carbonpilot.agents.export_risk import export_risk
from carbonpilot.agents.html_reliability import reliability
from carbonpilot.agents.risk import policy as learned_risk
from carbonpilot.agents.risk import report
from carbonpilot.agents.risk.calibration import curve
from carbonpilot.agents.risk.folder import CARD_FILE
from carbonpilot.agents.risk.report import calibrations
from carbonpilot.envs.scenario import load_scenario


def known_curve():
    p = np.random.default_rng(0).random(5000)
    return curve(p, np.random.default_rng(1).random(5000) < p).as_dict()


@pytest.fixture(scope="module")
def scenario():
    return load_scenario("metro")


@pytest.fixture
def folder(tmp_path, scenario):
    made = make_risk(tmp_path / "head", scenario)
    card = json.loads((made / CARD_FILE).read_text())
    card["calibration"] = {"local-b0": known_curve(), "chosen": known_curve()}
    (made / CARD_FILE).write_text(json.dumps(card))
    return made


def test_heads_of_folders_bundles_runs_and_the_shipped_one_are_found(monkeypatch, tmp_path, scenario, folder):
    monkeypatch.setattr(learned_risk, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "none")
    export_risk(folder, tmp_path / "bundle")
    shutil.copytree(folder, tmp_path / "run" / "risk")
    asked = [
        str(folder),
        f"{folder}+shield",
        str(tmp_path / "bundle"),
        str(tmp_path / "run"),
        "round-robin",
        "/no/where",
    ]
    found = calibrations(asked, scenario)
    assert set(found) == {"head", "bundle", "run"}
    assert all(set(c) == {"local-b0", "chosen"} for c in found.values())
    monkeypatch.setattr(learned_risk, "SHIPPED", tmp_path / "shipped")
    shutil.copytree(folder, tmp_path / "shipped" / "metro")
    assert set(report.calibrations([], scenario)) == {"learned-risk"}


def test_a_broken_folder_has_no_calibration(monkeypatch, tmp_path, scenario):
    monkeypatch.setattr(learned_risk, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "none")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / CARD_FILE).write_text("{")
    assert calibrations([str(tmp_path / "bad")], scenario) == {}


def test_the_page_shows_counts_and_curves():
    page = reliability({"a<b": {"local-b0": known_curve(), "chosen": known_curve()}})
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert page.count("<polyline") >= 2
    assert "<td>5000</td>" in page
    assert "chosen" in page
    assert reliability({}) == ""


def test_bins_of_a_few_samples_are_not_drawn():
    few = curve(np.array([0.05] * 100 + [0.95] * 3), np.zeros(103, bool)).as_dict()
    page = reliability({"a": {"local": few}})
    assert page.count("<circle") == 1
