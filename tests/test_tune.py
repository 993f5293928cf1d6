"""`carbonpilot tune`: training tapes only, resumable after a kill, atomic output, refusals that say why."""

import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from rich.console import Console

from carbonpilot.agents import tune as tune_module
from carbonpilot.agents.metrics import episode_metrics
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.rule_parameters import make_rule, tuned_parameters
from carbonpilot.agents.tune import finalists_of, run_tune, tape_seeds
from carbonpilot.agents.tune_evaluate import TuningTapes
from carbonpilot.agents.tune_options import TuneOptions
from carbonpilot.agents.tune_report import print_tuned
from carbonpilot.agents.tune_search import Trial
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario

FINISHED = b'"op_code":4'  # an added trial in optuna's journal
SMALL = {"trials": 20, "search_tapes": 6, "selection_tapes": 6}


def untimed(content):
    text = yaml.safe_dump(content)
    for entry in content["policies"].values():
        entry.pop("seconds"), entry.pop("command")
    assert text
    return content


def test_the_file_holds_what_was_found_and_what_it_cost(tmp_path, shortened):
    path, scenario = shortened()
    out = tmp_path / "tuned.yaml"
    seen = []
    run_tune(
        str(path),
        ["rtt-threshold", "bandit"],
        out,
        options=TuneOptions(**SMALL),
        progress=lambda *a: seen.append(a),
    )
    content = yaml.safe_load(out.read_text())
    entry = content["policies"]["rtt-threshold"]
    assert content["schema"] == "carbonpilot/tuned/1"
    assert content["scenario"] == scenario.name
    assert entry["trials"] == 20
    assert entry["search"]["tapes"] == 6
    assert entry["requests_simulated"] == 20 * 6 * 60 + entry["selection"]["finalists"] * 6 * 60
    assert {"seconds", "seed", "command", "sampler", "aim"} <= set(entry)
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    print_tuned(content, ["rtt-threshold"], console)
    printed = console.export_text()
    assert f"{entry['selection']['carbon_mg_per_request']:.4f}" in printed
    assert "Training tapes only" in printed
    assert "bandit" not in printed
    assert seen[-1] == ("bandit", 40, 40)
    parameters = tuned_parameters(scenario, out)
    assert parameters["bandit"] == content["policies"]["bandit"]["parameters"]
    make_rule("bandit", scenario, parameters["bandit"]).reset(1)


def test_scores_of_a_batch_of_settings_are_those_of_the_benchmarks_rollout(tmp_path, shortened):
    _, scenario = shortened(requests=120)
    seeds = np.arange(5)
    settings = [
        {"offload_below_ms": 20.0, "return_above_ms": 30.0},
        {"offload_below_ms": 60.0, "return_above_ms": 90.0},
    ]
    scores = TuningTapes(scenario, seeds).score("rtt-threshold", settings)
    for i, setting in enumerate(settings):
        record = run_policy(make_rule("rtt-threshold", scenario, setting), scenario, seeds, "training")
        metrics = episode_metrics(record, scenario.slo)
        np.testing.assert_allclose(scores.carbon_mg[i], metrics["carbon_mg_per_request"])
        np.testing.assert_array_equal(scores.misses[i] <= scores.allowed[i], metrics["episodes_meeting_slo"])


def test_policies_that_take_one_value_only_are_played_side_by_side(tmp_path, shortened):
    _, scenario = shortened()
    tapes = TuningTapes(scenario, np.arange(4))
    settings = [{"margin_ms": 0.0}, {"margin_ms": 40.0}]
    together = tapes.score("ng-resource-manager", settings)
    for i, setting in enumerate(settings):
        np.testing.assert_array_equal(
            together.misses[i], tapes.score("ng-resource-manager", [setting]).misses[0]
        )


def test_evaluation_tapes_are_refused():
    with pytest.raises(InputError, match="training tapes only"):
        TuningTapes(load_scenario("metro"), np.arange(2), part="evaluation")


def test_search_and_selection_share_no_tape():
    search, fresh = tape_seeds(0, 500, fresh=False), tape_seeds(0, 500, fresh=True)
    assert not set(search) & set(fresh)
    assert not set(search) & set(tape_seeds(1, 500, fresh=False))


KILLED = """
import sys
from carbonpilot.agents.tune import run_tune
from carbonpilot.agents.tune_options import TuneOptions
run_tune(sys.argv[1], ["slo-predictive"], sys.argv[2], study=sys.argv[3],
         options=TuneOptions(trials=60, search_tapes=400, selection_tapes=10))
"""


def test_a_killed_search_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path, shortened):
    path, _ = shortened(requests=20)
    study = tmp_path / "study.journal"
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "killed.yaml"), str(study)]
    child = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not study.exists() or study.read_bytes().count(FINISHED) < 8):
        assert child.poll() is None
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    options = TuneOptions(trials=60, search_tapes=400, selection_tapes=10)
    played = []
    original = tune_module.Players.score

    def counted(self, rule, settings):
        played.append(len(settings))
        return original(self, rule, settings)

    before = study.read_bytes().count(FINISHED)
    assert not (tmp_path / "killed.yaml").exists()
    tune_module.Players.score = counted
    try:
        resumed = run_tune(
            str(path), ["slo-predictive"], tmp_path / "killed.yaml", study=study, options=options
        )
        searched = sum(played[:-2])  # the last two are the finalists and the winner
    finally:
        tune_module.Players.score = original
    whole = run_tune(str(path), ["slo-predictive"], tmp_path / "whole.yaml", options=options)
    assert 8 <= before < 60
    assert searched == 60 - before
    assert untimed(resumed) == untimed(whole)


def test_a_finished_study_is_not_played_again(tmp_path, shortened):
    path, _ = shortened()
    arguments = (str(path), ["rtt-threshold"], tmp_path / "a.yaml")
    study = tmp_path / "s.journal"
    first = run_tune(*arguments, study=study, options=TuneOptions(**SMALL))
    trials = study.read_bytes().count(FINISHED)
    second = run_tune(*arguments, study=study, options=TuneOptions(**SMALL))
    assert trials == study.read_bytes().count(FINISHED) == SMALL["trials"]
    assert untimed(first) == untimed(second)


def test_a_study_made_with_something_else_is_refused(tmp_path, shortened):
    path, _ = shortened()
    study = tmp_path / "s.journal"
    arguments = (str(path), ["rtt-threshold"], tmp_path / "a.yaml")
    run_tune(*arguments, study=study, options=TuneOptions(**SMALL))
    with pytest.raises(InputError, match="made with another seed"):
        run_tune(*arguments, study=study, options=TuneOptions(**SMALL, seed=5))


def test_a_file_that_is_no_study_is_refused(tmp_path, shortened):
    path, _ = shortened()
    study = tmp_path / "s.journal"
    study.write_text("not a journal\n")
    with pytest.raises(InputError, match="not a study file"):
        run_tune(str(path), ["rtt-threshold"], tmp_path / "a.yaml", study=study, options=TuneOptions(**SMALL))


def test_the_best_the_careful_and_the_untuned_settings_are_finalists():
    lucky = [Trial({"x": i / 100}, i, 0.4, 0.97) for i in range(50)]
    careful = [Trial({"x": 2 + i / 100}, 100 + i, 0.41, 1.0) for i in range(50)]
    finalists = finalists_of([*lucky, *careful, *lucky], {"x": 0.5})
    assert finalists[0] == {"x": 0.0}
    assert {"x": 2.0} in finalists
    assert finalists[-1] == {"x": 0.5}
    assert len(finalists) == len({f["x"] for f in finalists}) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policies": ["slo-predictiv"]}, "Did you mean 'slo-predictive'"),
        ({"policies": ["cleanest-zone"]}, "has nothing to tune"),
        ({"policies": []}, "Nothing to tune"),
        ({"scenario_name": "metrro"}, "Did you mean 'metro'"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_searched(tmp_path, arguments, message):
    call = {"scenario_name": "metro", "policies": ["bandit"], "out": tmp_path / "a.yaml"} | arguments
    with pytest.raises(InputError, match=message):
        run_tune(**call)
    assert not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 3, "steps": 3}, "Give one of them"),
        ({"trials": 0}, "--trials must be at least 1"),
        ({"sampler": "grid"}, "--sampler must be one of cem, tpe, random"),
        ({"jobs": 0}, "--jobs must be at least 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TuneOptions(**options)


def test_the_budget_follows_from_steps_or_from_the_number_of_tunables():
    assert TuneOptions(steps=1_000_000).trials_for(5, 200_000) == 5
    assert TuneOptions(trials=7).trials_for(5, 200_000) == 7
    assert TuneOptions().trials_for(1, 200_000) * 200_000 >= 20_000_000
    assert TuneOptions().trials_for(40, 200_000) > TuneOptions().trials_for(10, 200_000)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, shortened):
    path, _ = shortened(requests=20)
    options = {"trials": 24, "search_tapes": 400, "selection_tapes": 6}
    one = run_tune(str(path), ["rtt-threshold"], tmp_path / "a.yaml", options=TuneOptions(**options))
    two = run_tune(str(path), ["rtt-threshold"], tmp_path / "b.yaml", options=TuneOptions(**options, jobs=2))
    assert untimed(one) == untimed(two)
