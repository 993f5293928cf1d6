"""Verdict, table, JSON contract and pictures, from synthetic scores with a known answer."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from carbonpilot.agents import plots, report
from carbonpilot.agents.benchmark import BenchmarkResult, PolicyResult, break_even_extras
from carbonpilot.agents.certified import certified_gap
from carbonpilot.agents.comparison import best_matched
from carbonpilot.agents.html_figures import pareto_front
from carbonpilot.agents.html_page import html_page
from carbonpilot.agents.report_extras import Extras
from carbonpilot.agents.scoreboard import cell
from carbonpilot.agents.statistics import Estimate
from carbonpilot.agents.verdict import best_complying, compare, comparisons, verdict
from carbonpilot.agents.words import listed, percent, points, relative
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
        "latency_slo_quantile_ms": np.where(meets > 0, 120.0, 180.0),
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
        (0.25, 1.0, "wins", "agent WINS against the best rule (rtt-threshold): it emits 16.7 % less ["),
        (0.35, 1.0, "loses", "agent LOSES, the best rule (rtt-threshold) wins: it emits 16.7 % more ["),
        (0.3001, 1.0, "no clear difference", "NO CLEAR DIFFERENCE to the best rule (rtt-threshold)"),
        (
            0.10,
            0.9,
            "does not comply",
            "agent DOES NOT COMPLY: it meets the SLO in 90.0 % [85.1, 93.4] of the",
        ),
        (0.25, 0.95, "buys carbon with misses", "agent BUYS CARBON WITH MISSES and does not win against"),
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
    low, high = (-c.relative_difference.high, -c.relative_difference.low)
    assert low < 1 / 6 < high
    assert f"16.7 % less [{100 * low:.1f}, {100 * high:.1f}] at equal SLO" in " ".join(verdict(found))


def test_carbon_that_is_bought_with_misses_is_marked_and_does_not_win():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25, met=0.95))))
    assert "WINS" not in text
    assert "at LOWER SLO compliance (met in 95.0 % against 100.0 % of the episodes, -5.0 points [-" in text
    text = " ".join(verdict(result(scores("agent", "learned", 0.25, met=0.995))))
    assert "WINS" in text
    assert "at equal SLO compliance (met in 99.5 % against 100.0 % of the episodes, -0.5 points [" in text


def test_a_hard_cut_is_brittle_so_the_comparison_without_one_is_printed_too():
    """A rule at 94.5 % does not comply, yet it is cleaner than the agent that misses more than it."""
    near = scores("near-rule", "rule", 0.2, met=0.945)
    found = result(scores("agent", "learned", 0.25, met=0.90), near)
    text = " ".join(verdict(found))
    assert "Cleaner and only just below the cut of 95 %: near-rule (94.5 %, 0.2 mg)." in text
    assert "Against near-rule, the cleanest without learning that meets the SLO at least as often" in text
    assert "(94.5 %), it emits 25.0 % more [" in text
    better = result(scores("agent", "learned", 0.25, met=1.0), near)
    assert best_matched(better, better["agent"]).name == "rtt-threshold"
    assert "rtt-threshold is also the cleanest without learning that meets" in " ".join(verdict(better))


def test_nobody_without_learning_as_compliant_is_said():
    found = result(scores("agent", "learned", 0.25), rule_met=0.97)
    only = tuple(r for r in found.results if r.name != "always-local")
    text = " ".join(verdict(BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", only)))
    assert "No policy without learning meets the SLO as often as it does." in text
    assert "at higher SLO compliance" in text


def test_a_tuned_rule_is_called_one():
    tuned = dataclasses.replace(scores("slo-predictive", "rule", 0.22), tuned=True)
    found = result(scores("agent", "learned", 0.25), tuned)
    assert "agent LOSES, the best tuned rule (slo-predictive) wins: it emits 13.6 %" in " ".join(
        verdict(found)
    )


def test_one_training_seed_is_said_not_to_cover_the_noise_of_training():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25))))
    assert "agent: one training seed, so the noise of training is not covered" in text


def test_probability_of_improvement_has_an_interval_even_where_it_is_one():
    agent = scores("agent", "learned", 0.1)
    found = result(agent)
    improvement = compare(found, agent, found["always-local"]).probability_of_improvement
    assert improvement.mean == improvement.high == 1.0
    assert 0.97 < improvement.low < 0.99  # Wilson: 200 of 200


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


def test_a_bound_certifies_how_much_is_left():
    agent = scores("agent", "learned", 0.25)
    late = scores("late", "learned", 0.15, met=0.5)
    bound = np.where(np.arange(EPISODES) < 190, 0.2, np.nan)  # ten tapes that no plan can keep
    found = dataclasses.replace(result(agent, late), bounds={"coupled": bound})
    gap = certified_gap(found, agent, "coupled")
    assert gap.mean == pytest.approx(1 - 0.2 / agent.metrics["carbon_mg_per_request"][:190].mean())
    assert gap.low < gap.mean < gap.high
    assert certified_gap(found, late, "coupled") == Estimate(None)  # misses can buy less than the bound
    document = report.as_json(found)
    assert document["bounds"]["coupled"]["lower_bound_mg"]["mean"] == pytest.approx(0.2)
    assert document["policies"]["agent"]["certified_gap"]["coupled"]["mean"] == pytest.approx(gap.mean)
    assert "No plan that meets the SLO emits less than 0.2 " in " ".join(document["verdict"])
    with pytest.raises(InputError, match="one number for each of the 200 episodes"):
        dataclasses.replace(found, bounds={"coupled": bound[:50]})


def test_the_front_holds_what_nothing_else_beats_in_both():
    misses = {"a": (0.01, 0.5), "b": (0.02, 0.4), "c": (0.03, 0.45), "d": (0.04, 0.3), "e": (0.04, 0.6)}
    policies = []
    for name, (missed, carbon_mg) in misses.items():
        policy = scores(name, "rule", carbon_mg)
        policy.metrics["slo_miss_rate"][:] = missed
        policies.append(policy)
    assert [r.name for r in pareto_front(policies)] == ["a", "b", "d"]


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


def test_the_share_of_hindsights_saving_is_said_of_those_that_comply():
    text = " ".join(
        verdict(result(scores("agent", "learned", 0.32), scores("late", "learned", 0.21, met=0.5)))
    )
    assert "60.0 % less" in text  # hindsight, 0.20 mg, than always-local, 0.50
    reached = text.partition("Of that saving reach ")[2].partition(". ")[0]
    assert [word for word in reached.replace(",", " ").split() if word[0].isalpha()] == [
        "rtt-threshold",
        "and",
        "agent",
    ]
    assert "rtt-threshold 67 % [" in reached
    assert "agent 60 % [" in reached
    assert "Of that saving rtt-threshold" not in text
    nothing = [r for r in result().results if r.kind != "oracle"] + [scores("oracle-budget", "oracle", 0.498)]
    assert "Of that saving" not in " ".join(
        verdict(BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", tuple(nothing)))
    )


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


def test_pictures_are_pngs_of_the_right_size_with_something_on_them():
    image = pytest.importorskip("matplotlib.image")
    pictures = plots.draw_plots(result(scores("agent", "learned", 0.25)))
    assert set(pictures) == {"latency_cdf.png", "carbon_vs_misses.png", "placements_over_time.png"}
    for name, content in pictures.items():
        pixels = image.imread(io.BytesIO(content))
        assert pixels.shape[1] in (1350, 1500), name  # 9 or 10 inches at 150 dots
        assert pixels.shape[0] >= 450, name
        assert 0.01 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.9, name


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
