"""The report of a benchmark: words, table, JSON contract, pictures and page, from synthetic scores."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from scores_builder import EPISODES, SCENARIO, result, scores

from carbonpilot.agents import plots, report
from carbonpilot.agents.benchmark import BenchmarkResult, break_even_extras
from carbonpilot.agents.html_figures import pareto_front
from carbonpilot.agents.html_page import html_page
from carbonpilot.agents.report_extras import Extras
from carbonpilot.agents.scoreboard import cell
from carbonpilot.agents.statistics import Estimate
from carbonpilot.agents.verdict import compare, comparisons, verdict
from carbonpilot.agents.words import listed, percent, points, relative
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import scenario_sha256

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
    assert {"groups", "excluded", "seconds", "smallest_p95", "bounds", "feasible"} <= set(document)
    for name, policy in document["policies"].items():
        assert set(policy) >= ESTIMATES | {"placement_share", "iqm", "probability_of_improvement"}, name
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
    assert "Time: " in text
    assert any(line.split()[:2] == ["agent", "*"] and "0.250 [" in line for line in lines)
    assert any(line.split()[0] == "always-edge-b0" and "* " not in line for line in lines if line.strip())
    assert "evaluation part" in text.replace("\n", " ")
    assert f"{EPISODES} tapes" in text
    assert "WINS against the best rule (rtt-threshold)" in text.replace("\n", " ")


def test_words_for_intervals():
    assert relative(Estimate(-0.041, -0.052, -0.029)) == "4.1 % less [2.9, 5.2]"
    assert relative(Estimate(0.031, -0.002, 0.064)) == "3.1 % more [-0.2, 6.4]"
    assert relative(Estimate(0.0, -1e-9, 0.0)) == "0.0 % less [0.0, 0.0]"  # and not minus nothing
    assert relative(Estimate(0.031)) == "3.1 % more (one tape, no interval)"
    assert points(Estimate(-0.0001, -0.02, 0.0101)) == "+0.0 points [-2.0, 1.0]"
    assert percent(None) == "-"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_cells():
    assert cell(Estimate(0.4567, 0.41, 0.5), "{:.0%}", True) == "46 [41, 50]"
    assert cell(Estimate(0.4567, 0.41, 0.5), "{:.3f}", False) == "0.457"
    assert cell(Estimate(None), "{:.3f}", True) == "-"
    assert cell(Estimate(1.0), "{:.3f}", True) == "1.000"


def test_the_front_holds_what_nothing_else_beats_in_both():
    misses = {"a": (0.01, 0.5), "b": (0.02, 0.4), "c": (0.03, 0.45), "d": (0.04, 0.3), "e": (0.04, 0.6)}
    policies = []
    for name, (missed, carbon_mg) in misses.items():
        policy = scores(name, "rule", carbon_mg)
        policy.metrics["slo_miss_rate"][:] = missed
        policies.append(policy)
    assert [r.name for r in pareto_front(policies)] == ["a", "b", "d"]


def test_pictures_are_pngs_of_the_right_size_with_something_on_them():
    image = pytest.importorskip("matplotlib.image")
    pictures = plots.draw_plots(result(scores("agent", "learned", 0.25)))
    assert set(pictures) == {"latency_cdf.png", "carbon_vs_misses.png", "placements_over_time.png"}
    for name, content in pictures.items():
        pixels = image.imread(io.BytesIO(content))
        assert pixels.shape[1] in (1350, 1500), name  # 9 or 10 inches at 150 dots
        assert pixels.shape[0] >= 450, name
        assert 0.01 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.9, name


@pytest.mark.parametrize("draw", [plots.latency_cdf, plots.carbon_against_misses])
def test_a_legend_of_many_policies_is_not_cut_off(draw):
    many = [scores(f"carbonedge-performance-tuned-{i}", "learned", 0.25) for i in range(45)]
    figure = draw(result(*many))
    figure.canvas.draw()
    page, legend = figure.bbox, figure.legends[0].get_window_extent()
    assert len(figure.legends[0].get_texts()) >= 45
    assert page.y0 <= legend.y0
    assert legend.y1 <= page.y1


def test_html_needs_nothing_else_and_says_everything(tmp_path):
    found = result(scores("agent<1>", "learned", 0.25))
    extras = Extras(
        conclusion="Offloading can pay & does.", map_svg="<?xml version='1.0'?><svg id='map'></svg>"
    )
    report.write_report(found, html_file=tmp_path / "r.html", extras=extras)
    page = (tmp_path / "r.html").read_text()
    assert "http" not in page
    assert "<script" not in page
    assert "src=" not in page
    assert "agent<1>" not in page
    for said in (
        "The agent wins",
        "agent&lt;1&gt; WINS against",
        "Offloading can pay &amp; does.",
        "<svg id='map'>",
        scenario_sha256(SCENARIO),
        "Carbon against misses",
        "Latency of all requests",
        "Distance from hindsight",
        "Placements over time",
        "Where carbon can be saved at all",
        "SLO: p95 within 150 ms",
    ):
        assert said in page, said
    assert "<?xml" not in page
    assert page.count("<tr") == 1 + len(found.results)
    assert "Where carbon can be saved" not in html_page(found)


def test_no_carbon_at_all_is_no_division_by_zero():
    """A grid that emits nothing: ratios do not exist, and nothing is NaN."""
    agent = scores("agent", "learned", 0.25)
    field = list(result(agent).results)
    for policy in field:
        for name in policy.metrics:
            if name.startswith("carbon"):
                policy.metrics[name][:] = 0.0
    found = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", tuple(field))
    assert compare(found, field[-1], field[0]).relative_difference == Estimate(None)
    assert "no ratio to the other's zero" in " ".join(verdict(found))
    json.dumps(report.as_json(found), allow_nan=False)
    assert "NaN" not in html_page(found)


def test_without_an_oracle_or_a_static_placement_the_rest_still_stands():
    rules = (scores("rule-a", "rule", 0.3), scores("agent", "learned", 0.25))
    found = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", rules)
    assert found.oracle is None
    assert found.reference is None
    assert found.estimates["agent"]["regret_mg_per_request"] == Estimate(None)
    assert "agent WINS against the best rule (rule-a)" in " ".join(verdict(found))
    assert report.as_json(found)["oracle"] is None
    assert "The agent wins" in html_page(found)


def test_outputs_are_checked_before_the_work(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        report.check_outputs(tmp_path / "missing" / "out.json", None, None)
    with pytest.raises(InputError, match="folder"):
        report.check_outputs(tmp_path, None, None)
    old = tmp_path / "old.json"
    old.write_text("{}")
    report.check_outputs(old, None, None)  # a file may be replaced
    assert old.read_text() == "{}"


def test_the_break_even_comes_first():
    extras = break_even_extras(SCENARIO)
    assert extras.conclusion
    assert "<svg" in extras.map_svg
    out = io.StringIO()
    report.print_report(result(), Console(file=out, width=400), extras)
    assert out.getvalue().startswith(extras.conclusion)
