"""A sweep becomes a results table: same tapes for all, an agent's seeds together, with and without the shield."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
import yaml

from carbonpilot.agents.policy_result import CARBON
from carbonpilot.agents.sweep import field as field_module
from carbonpilot.agents.sweep.field import Game, play_field
from carbonpilot.agents.sweep.folder import SweepFolder
from carbonpilot.agents.sweep.report import explanation, sweep_report
from carbonpilot.agents.sweep.spec import read_spec
from carbonpilot.agents.sweep.table import COLUMNS, as_plain, cells, markdown, page, terminal
from carbonpilot.agents.sweep.trial import expand
from carbonpilot.envs.errors import InputError

NAMES = [
    "always-local",
    "rtt-threshold",
    "slo-predictive-budget",
    "cleanest-zone",
    "oracle-per-request",
    "oracle-budget",
]
EPISODES = 12


@pytest.fixture(scope="module")
def swept(lab, tmp_path_factory):
    """A sweep of one agent with two seeds and one with a single one; a third seed of it has failed."""
    here = tmp_path_factory.mktemp("swept")
    lab.site(here)
    small, other = {**lab.small_ppo}, {**lab.small_ppo, "gamma": 0.5}
    agents = {
        "ppo": {"algo": "ppo", "steps": lab.rollout, "settings": small},
        "short-sighted": {"algo": "ppo", "steps": lab.rollout, "settings": other},
    }
    content = {
        "schema": "carbonpilot/sweep/1",
        "scenarios": ["short-site.yaml"],
        "seeds": [0, 1],
        "agents": agents,
    }
    (here / "sweep.yaml").write_text(yaml.safe_dump(content))
    trials = expand(read_spec(here / "sweep.yaml"), here)
    folder = SweepFolder(here / "out")
    folder.add(trials)
    for trial in trials[:3]:
        settings = agents[trial.agent]["settings"]
        lab.train(
            here / "short-site.yaml",
            folder.run(trial.name),
            lab.rollout,
            seed=trial.plan.seed,
            settings=settings,
        )
    folder.note(trials[3].name, status="failed", reason="the disk is full")
    return folder.path


@pytest.fixture(scope="module")
def report(swept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_module, "field_names", lambda *_: list(NAMES))
        (found,) = sweep_report(swept, EPISODES, 3)
    return found


def test_everybody_played_the_same_tapes(report):
    result = report.field.result
    assert {r.name for r in result.results} == {
        *NAMES,
        "short-site-ppo-0",
        "short-site-ppo-1",
        "short-site-short-sighted-0",
    }
    assert {r.metrics[CARBON].shape for r in result.results} == {(EPISODES,)}
    assert result.part == "evaluation"


def test_seeds_of_an_agent_are_one_row_with_the_noise_of_training(report):
    names = [policy.name for policy in report.rows()]
    assert "ppo (2 training seeds)" in names
    assert "short-site-ppo-0" not in names
    assert "short-site-short-sighted-0" in names, "a single run is itself"
    group = report.field.result["ppo (2 training seeds)"]
    members = [report.field.result[name].metrics[CARBON] for name in group.members]
    np.testing.assert_allclose(group.metrics[CARBON], np.mean(members, axis=0))
    estimate = report.field.result.mean(group, CARBON)
    assert estimate.low < estimate.mean < estimate.high


def test_all_but_hindsight_play_under_the_shield_too(report):
    shielded = report.field.shielded
    names = {r.name for r in report.field.result.entries if r.kind != "oracle"}
    assert shielded.keys() == names
    assert not np.array_equal(
        shielded["cleanest-zone"].metrics[CARBON], report.field.result["cleanest-zone"].metrics[CARBON]
    )
    group = shielded["ppo (2 training seeds)"]
    members = [shielded[f"short-site-ppo-{seed}"].metrics[CARBON] for seed in (0, 1)]
    np.testing.assert_allclose(group.metrics[CARBON], np.mean(members, axis=0))


def test_the_gap_runs_from_the_best_rule_without_learning_to_hindsight(report):
    result, rule = report.field.result, report.rule
    complying = [r for r in result.results if r.kind in ("static", "rule") and r.complies]
    assert rule.carbon_mg == min(r.carbon_mg for r in complying)
    assert report.gap_closed(rule).mean == pytest.approx(0, abs=1e-12)
    assert report.gap_closed(result.oracle).mean == pytest.approx(1)
    agent = result["ppo (2 training seeds)"]
    expected = (rule.carbon_mg - agent.carbon_mg) / (rule.carbon_mg - result.oracle.carbon_mg)
    assert report.gap_closed(agent).mean == pytest.approx(expected)
    assert report.saving_share(result["always-local"]).mean == pytest.approx(0, abs=1e-12)


def test_fewer_than_five_seeds_and_missing_trials_are_said_plainly(report):
    notes = "\n".join(report.notes)
    assert "TOO FEW SEEDS: ppo has 2 training seeds (0 and 1), 5 are asked for" in notes
    assert (
        "TOO FEW SEEDS: short-sighted has 1 training seed (0), 5 are asked for; its interval does not hold"
        in notes
    )
    assert "NOT FINISHED: short-site-short-sighted-1 (failed: the disk is full)" in notes


def test_markdown_is_a_table_of_every_row(report):
    text = markdown([report])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(report.rows())
    assert {line.count("|") for line in rows} == {2 + len(COLUMNS)}
    assert "fixed before any result was seen" in text
    assert "TOO FEW SEEDS" in text
    group = next(line for line in rows if "ppo (2 training seeds)" in line)
    assert group.startswith("| **")
    assert re.search(r"\d\.\d{3} \[-?\d\.\d{3}, \d\.\d{3}\]", group)


def test_a_policy_that_does_not_comply_has_no_gap(report):
    for policy in report.rows():
        found = dict(zip([c.title for c in COLUMNS], cells(report, policy), strict=True))
        assert (found["gap closed %"] == "-") == (not policy.complies)
        assert (found["shielded: CO2 mg"] == "-") == (policy.kind == "oracle")


def test_json_and_page_say_the_same(report):
    plain = json.loads(json.dumps(as_plain([report])))
    site = plain["sites"]["short-site"]
    assert plain["schema"] == "carbonpilot/sweep-report/1"
    assert site["policies"]["always-local"]["carbon_mg_per_request"]["mean"] > 0
    assert site["groups"]["ppo (2 training seeds)"]["training_seeds"] == [0, 1]
    assert site["agents"]["ppo (2 training seeds)"]["members"] == ["short-site-ppo-0", "short-site-ppo-1"]
    assert site["shielded"]["rtt-threshold"]["episodes_meeting_slo"]["mean"] <= 1
    assert site["best_rule"] == report.rule.name
    text = html.unescape(page([report]))
    assert all(policy.name in text for policy in report.rows())
    assert text.count("<tr") == 1 + len(report.rows())
    assert terminal(report).row_count == len(report.rows())
    assert any("Gap closed: 0 is" in line for line in explanation(report))


def test_processes_find_the_same(swept, report):
    result = report.field.result
    names = ["always-local", "oracle-per-request"]
    game = Game(result.scenario, EPISODES, 3, None, field_module.TunedRules({}, "none"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_module, "field_names", lambda *_: names)
        seen = []
        found = play_field(game, {}, jobs=2, progress=lambda *told: seen.append(told))
    assert [r.name for r in found.result.results] == names
    assert seen[-1][1:] == (3, 3)
    for name in names:
        np.testing.assert_array_equal(found.result[name].metrics[CARBON], result[name].metrics[CARBON])


def test_agents_can_be_played_where_they_were_not_trained(swept, tmp_path):
    strict = tmp_path / "strict.yaml"
    base = swept.parent / "short-site.yaml"
    strict.write_text(f"extends: {base}\nname: strict\ndescription: For a test.\nslo: {{latency_ms: 120}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_module, "field_names", lambda *_: ["always-local", "oracle-per-request"])
        (found,) = sweep_report(swept, 3, 0, on=[str(strict)])
    assert found.name == "strict, trained on short-site"
    assert found.field.result.scenario.slo.latency_ms == 120
    assert list(as_plain([found])["sites"]) == ["strict, trained on short-site"]


def test_a_sweep_without_a_finished_run_says_so(tmp_path, swept):
    with pytest.raises(InputError, match="holds no sweep"):
        sweep_report(tmp_path, 2, 0)
    trials = json.loads((swept / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(trials))
    with pytest.raises(InputError, match="has no finished run yet"):
        sweep_report(tmp_path, 2, 0)
