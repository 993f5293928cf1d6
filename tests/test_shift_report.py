"""Shifts change the truth and nothing that is believed; the report judges policies beside the safe rule."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from carbonpilot.agents.benchmark_result import BenchmarkResult
from carbonpilot.agents.policy_registry import Contestant
from carbonpilot.agents.policy_result import CARBON, MET
from carbonpilot.agents.shift_cases import CASES
from carbonpilot.agents.shift_page import shift_page
from carbonpilot.agents.shift_report import shift_report
from carbonpilot.agents.shift_rows import CaseResult, ShiftRow, safest
from carbonpilot.agents.shift_words import as_json, cells, sentences
from carbonpilot.agents.statistics import Estimate
from carbonpilot.cli import app
from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, merge, scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.schema_shift import Factor
from carbonpilot.envs.shifts import draw_factor, lowest_rate_factor
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.streams import episode_keys
from carbonpilot.envs.validation import validated

SHIFTS = {case.name: case for case in CASES}


def changed(base="metro", **changes):
    return Scenario.model_validate(merge(scenario_dict(load_scenario(base)), changes))


SHORT = changed(episode={"requests": 60})


def played(scenario, actions=lambda n: 0, batch=8, steps=30):
    simulator = Simulator(scenario, batch, "evaluation")
    simulator.reset(np.arange(batch))
    results = [simulator.step(np.full(batch, actions(n))) for n in range(steps)]
    return simulator, results


def pairs(name):
    """The short site before and after a shift, on the same seeds."""
    before, after = Simulator(SHORT, 8, "evaluation"), Simulator(SHIFTS[name].of(SHORT), 8, "evaluation")
    first = before.reset(np.arange(8)), after.reset(np.arange(8))
    return before, after, first


@pytest.mark.parametrize("name", SHIFTS)
def test_beliefs_stay_those_of_the_scenario(name):
    before, after, _ = pairs(name)
    assert build_table(after.scenario).sha256 == build_table(SHORT).sha256
    left = scenario_dict(after.scenario)
    left.pop("shift", None)
    assert left == scenario_dict(SHORT)
    np.testing.assert_array_equal(before.constants.placements, after.constants.placements)


def test_slow_device_takes_longer_than_its_belief_says():
    before, after, (one, two) = pairs("slow-device")
    np.testing.assert_array_equal(one, two)  # nothing tells before the first answer
    slow, usual = after.step(np.zeros(8, int)).outcome, before.step(np.zeros(8, int)).outcome
    np.testing.assert_allclose(slow.service_ms, 1.2 * usual.service_ms)
    np.testing.assert_array_equal(slow.energy_j_marginal, usual.energy_j_marginal)
    edge, same = after.step(np.ones(8, int)).outcome, before.step(np.ones(8, int)).outcome
    np.testing.assert_array_equal(edge.service_ms, same.service_ms)  # servers are as fast as before


def test_bad_link_is_what_probes_measure():
    before, after, (one, two) = pairs("bad-link")
    layout, table = before.site.rows, before.table
    for row, factor in (("uplink:rtt_ms", 2), ("uplink:jitter_ms", 2), ("uplink:ms_per_kb", 2)):
        np.testing.assert_allclose(
            after.tape.rows[layout[row]], factor * before.tape.rows[layout[row]], rtol=1e-5
        )
    for feature, factor in (("uplink_rtt_ms", 2), ("uplink_uplink_mbps", 0.5)):
        j = table.index[feature]
        np.testing.assert_allclose(two[:, j], factor * one[:, j], rtol=1e-4)
    assert (after.tape.rows[layout["uplink:path"]] >= 0).all()


def test_loss_never_exceeds_one():
    scenario = changed(shift={"link_loss_factor": {"low": 50, "high": 50}})
    simulator = Simulator(scenario, 64)
    simulator.reset(np.arange(64))
    shown = simulator.tape.rows[simulator.site.rows["feature:uplink_loss_pct"]]
    assert 0 < shown.max() <= 10.0  # 100 % over the scale of 10


def test_busy_brings_requests_sooner_and_moves_nothing_else():
    before, after, _ = pairs("busy")
    np.testing.assert_allclose(after.tape.arrivals_ms, before.tape.arrivals_ms / 1.5, rtol=1e-6)
    np.testing.assert_array_equal(after.tape.rows, before.tape.rows)


def test_dirty_grids_are_dirtier_in_truth_and_feed():
    before, device, _ = pairs("dirty-device")
    _, everywhere, _ = pairs("dirty-grids")
    layout = before.site.rows
    for node, one, all_ in (
        ("local", 1.5, 1.5),
        ("edge", 1.5, 1.5),
        ("north", 1.0, 1.5),
        ("south", 1.0, 1.5),
    ):
        row = layout[f"{node}:carbon_mg_per_j"]
        feed = layout[f"feature:{'device' if node == 'local' else node}_carbon_g_per_kwh"]
        for r in (row, feed):
            np.testing.assert_allclose(device.tape.rows[r], one * before.tape.rows[r], rtol=1e-5)
            np.testing.assert_allclose(everywhere.tape.rows[r], all_ * before.tape.rows[r], rtol=1e-5)


def test_silent_feed_shows_an_old_value_and_its_age():
    scenario = SHIFTS["silent-feed"].of(changed(episode={"requests": 1000}))
    simulator = Simulator(scenario, 200)
    simulator.reset(np.arange(200))
    layout, table = simulator.site.rows, simulator.table
    scale = table.scale[table.index["feed_age_h"]]
    age = simulator.tape.rows[layout["feature:feed_age_h"]] * scale
    assert age[0].min() >= 7.0  # six hours of silence and the feed's own hour
    assert age[0].max() <= 19.0
    assert np.ptp(age[0]) > 8
    np.testing.assert_allclose(age[-1] - age[0], (len(age) - 1) / 3600, atol=1e-3)  # it grows with the time
    shown = simulator.tape.rows[layout["feature:north_carbon_g_per_kwh"]]
    assert (np.ptp(shown, axis=0) == 0).all()
    truth = (
        simulator.tape.rows[layout["north:carbon_mg_per_j"]]
        * 3.6
        / table.scale[table.index["feed_age_h"] - 1]
    )
    assert np.abs(shown[0] / truth[0] - 1).mean() > 0.1  # hours later the grid is another


def test_some_feeds_silent_some_not():
    scenario = changed(shift={"silent_feed": {"probability": 0.3, "low_h": 5, "high_h": 10}})
    simulator = Simulator(scenario, 2000)
    observation = simulator.reset(np.arange(2000))
    j = simulator.table.index["feed_age_h"]
    age = observation[:, j] * simulator.table.scale[j]
    assert np.mean(age > 1.0) == pytest.approx(0.3, abs=0.04)
    assert age[age > 1.0].min() >= 6.0


def test_a_factor_is_drawn_once_an_episode():
    scenario = changed(shift={"device_service_factor": {"low": 0.5, "high": 2.0}})
    simulator = Simulator(scenario, 1000)
    simulator.reset(np.arange(1000))
    factor = simulator.tape.service_factor
    assert 0.5 <= factor.min() < 0.52
    assert 1.97 < factor.max() <= 2.0
    alone = Simulator(scenario, 1)
    alone.reset([17])
    assert alone.tape.service_factor[0] == factor[17]
    columns = np.array([3, 3, 9])
    np.testing.assert_array_equal(simulator.tape.of_columns(columns).service_factor, factor[columns])


def test_slower_requests_have_a_tape_that_is_long_enough():
    scenario = changed(shift={"rate_factor": {"low": 0.5, "high": 0.5}})
    simulator = Simulator(scenario, 4)
    simulator.reset(np.arange(4))
    assert simulator.tape.arrivals_ms[-1].max() / 1000 < simulator.tape.rows.shape[1] - simulator.tape.warmup


def test_shifts_of_shifts_multiply():
    wide = load_scenario("metro-wide")
    after = SHIFTS["slow-device"].of(wide).shift.device_service_factor
    assert after.low == pytest.approx(1.2 * wide.shift.device_service_factor.low)
    assert after.high == pytest.approx(1.2 * wide.shift.device_service_factor.high)
    assert SHIFTS["slow-device"].of(wide).shift.silent_feed == wide.shift.silent_feed
    busy = SHIFTS["busy"].of(wide).shift.rate_factor
    assert (busy.probability, busy.otherwise) == (wide.shift.rate_factor.probability, 1.5)


def test_a_factor_of_some_episodes_only():
    keys = episode_keys(np.arange(4000))
    some = changed(shift={"rate_factor": {"low": 1.2, "high": 1.5, "probability": 0.25, "otherwise": 0.9}})
    always = changed(shift={"rate_factor": {"low": 1.2, "high": 1.5}})
    factor, drawn = (draw_factor(scenario, "rate_factor", keys) for scenario in (some, always))
    departs = factor != np.float32(0.9)
    assert 0.22 < departs.mean() < 0.28  # four standard errors
    np.testing.assert_array_equal(factor[departs], drawn[departs])  # the same draws, in fewer episodes
    assert abs(np.corrcoef(departs, drawn)[0, 1]) < 0.07  # whether says nothing of how much
    spec = some.shift.rate_factor
    assert (spec.least, spec.most) == (0.9, 1.5)
    assert (spec.times(2).least, spec.times(2).most) == (1.8, 3.0)
    assert lowest_rate_factor(some) == 0.9


@pytest.mark.parametrize(("probability", "least", "most"), [(0, 1.0, 1.0), (1, 1.2, 1.5), (0.5, 1.0, 1.5)])
def test_the_bounds_of_a_factor_are_what_can_be_drawn(probability, least, most):
    factor = Factor(low=1.2, high=1.5, probability=probability)
    assert (factor.least, factor.most) == (least, most)


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ({"grid_factor": {"low": 1.5, "high": 1.5}}, "grid_factor and grid_of are needed together"),
        ({"link_rate_factor": {"low": 2, "high": 1}}, r"low \(2\.0\) must not exceed high \(1\.0\)"),
        ({"device_service_factor": {"low": 0, "high": 1}}, "must be > 0, got 0"),
        ({"silent_feed": {"probability": 0.5, "low_h": 1, "high_h": 90}}, "must be <= 48, got 90"),
        ({"device_speed": {"low": 1, "high": 1}}, r"shift\.device_speed: unknown key"),
    ],
)
def test_a_wrong_shift_is_refused(shift, message):
    data = merge(scenario_dict(load_scenario("metro")), {"shift": shift})
    with pytest.raises(ScenarioError, match=message):
        validated(Scenario, data, "site.yaml")


def test_a_closed_loop_has_no_rate_to_shift():
    data = merge(
        scenario_dict(load_scenario("khan-mixed")), {"shift": {"rate_factor": {"low": 1.5, "high": 1.5}}}
    )
    with pytest.raises(ScenarioError, match="a closed loop has no rate of its own"):
        validated(Scenario, data, "site.yaml")
    assert "closed loop" in SHIFTS["busy"].does_not_apply(load_scenario("khan-mixed"))


@pytest.fixture(scope="module")
def report():
    return shift_report(
        SHORT, ["slo-predictive", "always-edge-b0"], episodes=10, only=["slow-device", "bad-link"]
    )


def test_report_plays_with_and_without_the_shield_beside_the_safe_rule(report):
    assert [case.case.name for case in report.cases] == ["unchanged", "bad-link", "slow-device"]
    for case in report.cases:
        names = [row.name for row in case.rows]
        assert names[:2] == ["oracle-budget", "always-local"]
        assert report.safe in names
        for name in ("slo-predictive", "always-edge-b0"):
            assert case.row(name).asked
            assert case.row(f"{name}-shielded").asked
        assert (
            len(names) == len(set(names)) <= 7
        )  # rules that were only candidates for the safe one are not shown
        assert case.row("oracle-budget").kept.mean == 1.0
        assert 0 < case.feasible <= 10


def test_report_compares_with_the_safe_rule_on_the_same_tapes(report):
    safe, other = (report.cases[0].row(name) for name in (report.safe, "always-edge-b0"))
    assert safe.against_safe.mean is None
    ratio = other.carbon_mg.mean / safe.carbon_mg.mean - 1
    assert other.against_safe.mean == pytest.approx(ratio)
    assert other.against_safe.low <= ratio <= other.against_safe.high
    assert report.deployed
    assert all(row.shielded and row.asked for _, row in report.deployed)


def test_json_and_page_hold_every_case(report):
    content = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert content["schema"] == "carbonpilot/shift/1"
    assert set(content["cases"]) == {"unchanged", "bad-link", "slow-device"}
    row = content["cases"]["bad-link"]["policies"]["slo-predictive-shielded"]
    assert set(row["carbon_against_safe"]) == {"mean", "ci95"}
    assert content["holds"] == report.holds
    page = shift_page(report)
    assert page.count("<table>") == 3
    assert "always-edge-b0-shielded" in page


def row(name, kept, against, asked=True):
    return ShiftRow(name, "learned", asked, Estimate(kept), Estimate(0.4), Estimate(against))


@pytest.mark.parametrize(
    ("kept", "against", "keeps", "clean"),
    [(0.95, 0.02, True, True), (0.949, 0.0, False, True), (1.0, 0.021, True, False), (1.0, None, True, True)],
)
def test_limits_are_those_that_were_fixed(kept, against, keeps, clean):
    made = row("agent-shielded", kept, against)
    assert (made.keeps, made.clean) == (keeps, clean)
    shown = cells(CaseResult(CASES[0], SHORT, 10), made, "rule-shielded")
    assert (" !" in shown[1], " !" in shown[3]) == (not keeps, not clean)


def test_verdict_names_what_is_broken_and_where(report):
    from dataclasses import replace

    rows = (
        row("rule-shielded", 0.9, None, asked=False),
        row("agent-shielded", 0.8, 0.05),
        row("agent", 0.1, 0.0),
    )
    cases = (
        CaseResult(CASES[0], SHORT, 10, rows),
        CaseResult(CASES[3], None, 0, skipped="does not apply: no link"),
    )
    made = replace(report, safe="rule-shielded", cases=cases)
    said = sentences(made)
    assert said[0].startswith("agent-shielded keeps the SLO too seldom in unchanged (80 %) and is dirtier")
    assert "The safe rule itself misses the limit in unchanged" in said[1]
    assert not made.holds
    assert len(said) == 2  # the row without the shield is not judged


def test_a_policy_that_fails_is_named_and_the_report_does_not_hold(report, monkeypatch):
    class Broken:
        name = "broken"

        def reset(self, batch):
            pass

        def decide(self, observation, mask):
            raise ZeroDivisionError("by design")

    from carbonpilot.agents import shift_report as module

    real, broken = module.contestants, [Contestant("broken", "learned", Broken())]
    monkeypatch.setattr(
        module,
        "contestants",
        lambda names, *rest: broken if list(names) == ["broken"] else real(names, *rest),
    )
    made = shift_report(
        changed(episode={"requests": 20}), ["broken"], episodes=4, only=["unchanged"], safe="bandit"
    )
    assert {name for name, _ in made.failed} == {"broken", "broken-shielded"}
    assert "ZeroDivisionError" in sentences(made)[-1]
    assert not made.holds


def test_safest_rule_is_clean_among_those_that_keep_the_objective():
    class Played:
        def __init__(self, name, met, carbon):
            self.name, self.metrics = name, {MET: np.array(met, float), CARBON: np.array(carbon, float)}

    result = object.__new__(BenchmarkResult)
    rules = [
        Played("dirty", [1, 1, 0], [3, 3, 0]),
        Played("late", [0, 1, 1], [1, 1, 1]),
        Played("good", [1, 1, 0], [2, 2, 9]),
    ]
    object.__setattr__(result, "results", tuple(rules))
    names, feasible = ["dirty", "late", "good"], np.array([True, True, False])
    assert safest(result, names, feasible) == "good"
    assert safest(result, ["late"], feasible) == "late"
    assert safest(result, names, np.zeros(3, bool)) == "dirty"


def test_what_cannot_be_asked_for_is_refused():
    with pytest.raises(InputError, match=r"Unknown shift 'slow-divice'.*Did you mean 'slow-device'"):
        shift_report(SHORT, only=["slow-divice"])
    with pytest.raises(InputError, match="oracle-budget is hindsight"):
        shift_report(SHORT, ["oracle-budget"])
    with pytest.raises(InputError, match="--episodes must be at least 1"):
        shift_report(SHORT, episodes=0)


def test_command_writes_what_it_is_asked_for(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("extends: metro\nname: small\ndescription: A short one.\nepisode: {requests: 40}\n")
    out = tmp_path / "shift.json"
    call = [
        "shift",
        str(site),
        "--policy",
        "always-local",
        "--episodes",
        "4",
        "--only",
        "busy",
        "--safe",
        "bandit",
    ]
    result = CliRunner().invoke(app, [*call, "--json", str(out), "--html", str(tmp_path / "shift.html")])
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    assert content["safe_rule"] == "bandit-shielded"
    assert set(content["cases"]) == {"unchanged", "busy"}
    checked = CliRunner().invoke(app, [*call, "--check"])
    assert checked.exit_code == (0 if content["holds"] else 1)
