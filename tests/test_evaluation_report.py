"""Verdict, table, JSON contract and pictures, from synthetic scores with a known answer."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from carbonpilot.agents import plots, report
from carbonpilot.agents.benchmark import BenchmarkResult, PolicyResult
from carbonpilot.agents.scoreboard import cell
from carbonpilot.agents.statistics import Estimate
from carbonpilot.agents.verdict import best_complying, compare, comparisons, verdict
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, scenario_sha256

SCENARIO = load_scenario("metro")
NAMES = [p.name for p in SCENARIO.placements]
EPISODES = 200
TAPE = np.random.default_rng(0).normal(0.0, 0.05, EPISODES)  # how dirty each tape is


def scores(name: str, kind: str, carbon_mg: float, met: float = 1.0, noise: float = 0.01) -> PolicyResult:
    """A policy of known mean carbon that meets the SLO in a given share of the episodes."""
    rng = np.random.default_rng(len(name) + int(1000 * carbon_mg))
    own = rng.normal(0.0, noise, EPISODES)
    meets = (np.arange(EPISODES) < round(met * EPISODES)).astype(float)
    carbon = carbon_mg + TAPE + own - (TAPE + own).mean()
    metrics = {
        "carbon_mg_per_request": carbon,
        "energy_j_per_request": 10 * carbon,
        "latency_p50_ms": np.full(EPISODES, 80.0),
        "latency_p95_ms": np.where(meets > 0, 120.0, 180.0),
        "latency_p99_ms": np.full(EPISODES, 190.0),
        "slo_miss_rate": np.where(meets > 0, 0.02, 0.09),
        "episodes_meeting_slo": meets,
        "accuracy_miou": np.full(EPISODES, 74.6),
        "carbon_mg_marginal_per_request": carbon,
        "carbon_mg_attributional_per_request": 2 * carbon,
        "reward_per_request": -carbon,
    }
    shares = np.zeros((len(NAMES), EPISODES))
    shares[0], shares[1] = 0.25, 0.75
    return PolicyResult(
        name=name,
        kind=kind,
        metrics=metrics,
        shares=shares,
        latency_cdf_ms=np.linspace(60, 200, 1001),
        time=np.linspace(10, 990, 50),
        time_shares=np.repeat(shares[:, :1], 50, axis=1),
        requests=EPISODES * 1000,
    )


def result(*learned: PolicyResult, rule_met: float = 1.0) -> BenchmarkResult:
    """The usual field around the learned policies; the rule is the one to beat at 0.30 mg."""
    field = (
        scores("always-local", "static", 0.50),
        scores("always-edge-b0", "static", 0.10, met=0.1),
        scores("rtt-threshold", "rule", 0.30, met=rule_met),
        scores("oracle-per-request", "oracle", 0.20),
    )
    return BenchmarkResult(SCENARIO, seed=0, episodes=EPISODES, part="evaluation", results=(*field, *learned))


def test_the_opponent_is_the_cleanest_that_complies_and_neither_learned_nor_knows_the_future():
    found = result(scores("agent", "learned", 0.25))
    assert best_complying(found).name == "rtt-threshold"  # not the dirty edge, the oracle or the agent
    assert found.reference.name == "always-local"
    assert found.oracle.name == "oracle-per-request"


@pytest.mark.parametrize(
    ("carbon_mg", "met", "outcome", "words"),
    [
        (0.25, 1.0, "wins", "agent WINS against rtt-threshold: 0.25 against 0.3 mg per request"),
        (0.35, 1.0, "loses", "agent LOSES to rtt-threshold: 0.35 against 0.3 mg per request"),
        (0.3001, 1.0, "no clear difference", "agent shows NO CLEAR DIFFERENCE to rtt-threshold"),
        (0.10, 0.9, "does not comply", "agent DOES NOT COMPLY: it meets the SLO in 90.0 % of the episodes"),
    ],
)
def test_verdict_says_what_the_numbers_say(carbon_mg, met, outcome, words):
    agent = scores("agent", "learned", carbon_mg, met, noise=0.02)
    found = result(agent)
    assert compare(found, agent, found["rtt-threshold"]).outcome == outcome
    text = " ".join(verdict(found))
    assert words in text
    assert ("WINS" in text) == (outcome == "wins")


def test_difference_and_its_direction():
    agent = scores("agent", "learned", 0.25)
    found = result(agent)
    c = compare(found, agent, found["rtt-threshold"])
    assert c.carbon_difference_mg.mean == pytest.approx(-0.05)
    assert c.carbon_difference_mg.low < -0.05 < c.carbon_difference_mg.high < -0.04
    assert c.relative_difference.mean == pytest.approx(-1 / 6)
    assert c.probability_of_improvement.mean > 0.95
    assert "16.7 % less (95 % interval " in " ".join(verdict(found))


def test_a_win_that_is_paid_for_with_misses_is_told():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25, met=0.95))))
    assert "WINS" in text
    assert "SLO met in 95.0 % against 100.0 % of them. That is clearly fewer" in text
    assert "clearly fewer" not in " ".join(verdict(result(scores("agent", "learned", 0.25, met=0.995))))


def test_carbon_of_policies_that_do_not_comply_is_not_compared():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25))))
    assert "clearly cleaner than always-local, rtt-threshold;" in text
    assert (
        "beyond comparison, because they do not comply and are not clearly dirtier: always-edge-b0." in text
    )


def test_a_policy_that_is_dirtier_and_does_not_comply_is_dominated():
    dirty = scores("always-edge-b4", "static", 0.9, met=0.1)
    found = result(scores("agent", "learned", 0.25), dirty)
    assert "more often within the SLO than (these do not comply) always-edge-b4" in " ".join(verdict(found))


def test_verdict_without_any_complying_rule_and_without_any_agent():
    field = result(scores("agent", "learned", 0.25), rule_met=0.5)
    dirty = tuple(r for r in field.results if r.name != "always-local")
    local = scores("always-local", "static", 0.50, met=0.0)
    nobody = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", (local, *dirty))
    text = " ".join(verdict(nobody))
    assert "No policy without learning complies" in text
    assert "the nearest is rtt-threshold with 50.0 %" in text
    assert "agent COMPLIES, which no policy without learning does: SLO met in 100.0 %" in text
    assert "No static placement complies, so the gap is counted from always-local" in text
    assert verdict(result())[0].startswith("Best complying policy without learning: rtt-threshold")


def test_gap_and_regret():
    found = result(scores("agent", "learned", 0.29))
    estimates = found.estimates["agent"]
    assert estimates["oracle_gap_closed"].mean == pytest.approx((0.50 - 0.29) / (0.50 - 0.20))
    assert estimates["regret_mg_per_request"].mean == pytest.approx(0.09)
    assert found.estimates["oracle-per-request"]["oracle_gap_closed"].mean == pytest.approx(1.0)
    assert found.estimates["always-local"]["oracle_gap_closed"].mean == pytest.approx(0.0)


def test_hindsight_is_the_cleanest_oracle_that_complies():
    warm = scores("oracle-warm-radio", "oracle", 0.18)
    field = result().results
    assert BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", (*field, warm)).oracle is warm
    late = scores("oracle-warm-radio", "oracle", 0.18, met=0.9)
    found = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", (*field, late))
    assert found.oracle.name == "oracle-per-request"


def test_gap_does_not_exist_where_the_oracle_saves_nothing():
    field = [r for r in result().results if r.kind != "oracle"]
    field.append(scores("oracle-per-request", "oracle", 0.498))
    found = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", tuple(field))
    assert found.estimates["rtt-threshold"]["oracle_gap_closed"] == Estimate(None)


ESTIMATES = {
    "carbon_mg_per_request",
    "energy_j_per_request",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "slo_miss_rate",
    "episodes_meeting_slo",
    "accuracy_miou",
    "oracle_gap_closed",
    "regret_mg_per_request",
}


def assert_contract(document: dict, scenario) -> None:
    """The JSON contract of DESIGN.md, key by key."""
    assert {"schema", "carbonpilot_version", "scenario", "scenario_sha256", "seed", "policies"} <= set(
        document
    )
    assert document["schema"] == "carbonpilot/benchmark/1"
    assert document["scenario"] == scenario.name
    assert document["scenario_sha256"] == scenario_sha256(scenario)
    assert isinstance(document["seed"], int)
    for name, policy in document["policies"].items():
        assert set(policy) >= ESTIMATES | {"placement_share"}, name
        for key in ESTIMATES:
            assert set(policy[key]) == {"mean", "ci95"}
            low, high = policy[key]["ci95"]
            if low is not None:
                assert low <= policy[key]["mean"] <= high, (name, key)
        assert set(policy["placement_share"]) == {p.name for p in scenario.placements}
        assert sum(policy["placement_share"].values()) == pytest.approx(1.0)


def test_json_contract(tmp_path):
    found = result(scores("agent", "learned", 0.25))
    report.write_report(found, json_file=tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    assert_contract(document, SCENARIO)
    assert document["part"] == "evaluation"
    assert document["policies"]["agent"]["kind"] == "learned"
    assert document["policies"]["agent"]["carbon_mg_per_request"]["mean"] == pytest.approx(0.25)
    assert [c["other"] for c in document["comparisons"]] == [
        "always-local",
        "always-edge-b0",
        "rtt-threshold",
    ]
    assert any("WINS" in sentence for sentence in document["verdict"])
    assert len(comparisons(found)) == 3


def test_printed_report_has_the_table_whole_and_the_verdict():
    out = io.StringIO()
    report.print_report(result(scores("agent", "learned", 0.25)), Console(file=out, width=80))
    text = out.getvalue()
    lines = text.splitlines()
    assert any(line.split()[:2] == ["agent", "*"] and "0.250 [" in line for line in lines)
    assert any(line.split()[0] == "always-edge-b0" and "* " not in line for line in lines if line.strip())
    assert "evaluation part" in text.replace("\n", " ")
    assert f"{EPISODES} tapes" in text
    assert "WINS against rtt-threshold" in text.replace("\n", " ")


def test_cells():
    assert cell(Estimate(0.4567, 0.41, 0.5), "{:.0%}", True) == "46 [41, 50]"
    assert cell(Estimate(0.4567, 0.41, 0.5), "{:.3f}", False) == "0.457"
    assert cell(Estimate(None), "{:.3f}", True) == "-"
    assert cell(Estimate(1.0), "{:.3f}", True) == "1.000"


def test_pictures_are_pngs_of_the_right_size_with_something_on_them():
    image = pytest.importorskip("matplotlib.image")
    pictures = plots.draw_plots(result(scores("agent", "learned", 0.25)))
    assert set(pictures) == {"latency_cdf.png", "carbon_vs_misses.png", "placements_over_time.png"}
    for name, content in pictures.items():
        pixels = image.imread(io.BytesIO(content))
        assert pixels.shape[1] in (1350, 1500), name  # 9 or 10 inches at 150 dots
        assert pixels.shape[0] >= 450, name
        assert 0.01 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.9, name


def test_html_needs_nothing_else(tmp_path, monkeypatch):
    pictures = dict.fromkeys(["a.png", "b.png", "c.png"], b"\x89PNG")
    monkeypatch.setattr("carbonpilot.agents.html_page.draw_plots", lambda result: pictures)
    report.write_report(result(scores("agent<1>", "learned", 0.25)), html_file=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page
    assert "agent&lt;1&gt; WINS against" in page
    assert "agent<1>" not in page


def test_outputs_are_checked_before_the_work(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        report.check_outputs(tmp_path / "missing" / "out.json", None, None)
    with pytest.raises(InputError, match="folder"):
        report.check_outputs(tmp_path, None, None)
    old = tmp_path / "old.json"
    old.write_text("{}")
    report.check_outputs(old, None, None)  # a file may be replaced
    assert old.read_text() == "{}"
