"""Teaching inside `carbonpilot train`: stages.json, TensorBoard, resuming, training tapes only."""

import json
import shutil

import numpy as np
import pytest
import torch
from risk_builder import make_risk, simulated_observations
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from carbonpilot.agents import training_session
from carbonpilot.agents.algorithms import load_model
from carbonpilot.agents.benchmark import benchmark
from carbonpilot.agents.callbacks import StopTraining
from carbonpilot.agents.export import export_run
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.agents.teach import school, tapes
from carbonpilot.agents.teach.best_stage import best_stage
from carbonpilot.agents.teach.stage_book import RL
from carbonpilot.agents.teach.table import stage_table
from carbonpilot.agents.training_config import CONFIGS, load_training_config
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.scenario import load_scenario

LESSONS = {"tapes": 8, "every": 3, "lookahead": 2, "epochs": 2, "explore": 0.05, "learning_rate": 0.003}
TEACHER = {
    "oracle": "oracle-budget",
    "miss_price": {
        "source": "oracle", "factor": 1.0, "lowest_mg": 1.0, "budget_gain": 1.0, "target_share": 0.7, "adapt": 0.5,
    },
    "fit": {"batch_size": 64, "value_coef": 0.5, "max_grad_norm": 1.0, "temperature": 0.3},
    "stages": [
        {"kind": "clone", "loss": "regress", **LESSONS},
        {"kind": "dagger", "loss": "cost", "rounds": 2, "kept_rounds": 2, "follow": "learner", **LESSONS},
    ],
    "held_back": 8,
    "actor_frozen_steps": 256,
}  # fmt: skip
SETTINGS = {"teacher": TEACHER, "tape_baseline": True}
STEPS = 512


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


def train(lab, site, out, **options):
    return lab.train(site, out, STEPS, settings={**SETTINGS, **options.pop("settings", {})}, **options)


@pytest.fixture(scope="module")
def finished(lab, site, tmp_path_factory):
    """A finished run, the parts of all tapes drawn while it was taught, and the first models' weights."""
    out, parts = tmp_path_factory.mktemp("run") / "run", []
    drawn = tapes.draw_tape
    teach = school.School.teach
    with pytest.MonkeyPatch.context() as patch:

        def spied(*arguments, **named):
            parts.append(arguments[2])
            return drawn(*arguments, **named)

        def watched(self, model):
            from carbonpilot.envs import simulator

            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(simulator, "draw_tape", spied)
                inner.setattr(tapes, "draw_tape", spied)
                teach(self, model)

        patch.setattr(school.School, "teach", watched)
        result, text = train(lab, site, out)
    return out, result, text, parts


def test_every_stage_has_its_row(finished):
    out, result, text, _ = finished
    book = json.loads((out / "stages.json").read_text())
    assert book["schema"] == "carbonpilot/stages/1"
    assert book["scored_on"] == {"part": "training", "episodes": 8}
    assert book["seed"] == 5
    assert [row["name"] for row in book["stages"]] == ["untaught", "clone", "dagger", RL]
    assert "slo-predictive-budget" in book["references"]
    for row in book["stages"]:
        assert 0 <= row["slo_miss_rate"] <= 1
        assert row["carbon_mg_per_request"] > 0
        assert row["seconds"] >= 0
    untaught, clone, dagger, rl = book["stages"]
    assert (untaught["requests"], untaught["updates"]) == (0, 0)
    requests = 8 * 40 + len(range(0, 40, 3)) * 8 * 5 * 3  # played, and labelled with two more each
    assert abs(clone["requests"] - requests) <= 8 * 5 * 3
    assert abs(dagger["requests"] - 2 * requests) <= 2 * 8 * 5 * 3
    assert 0 <= clone["agreement"] <= 1
    assert rl["requests"] == result.steps == STEPS
    assert "clone: " in text
    assert "held-back training episodes" in text


def test_models_of_the_stages_are_kept(finished):
    out, _, _, _ = finished
    names = sorted(path.name for path in (out / "stages").iterdir())
    assert names == ["00-untaught.zip", "01-clone.zip", "02-dagger.zip"]
    before, after = (load_model("ppo", out / "stages" / name) for name in names[1:])
    weights = [model.policy.action_net.weight.detach() for model in (before, after)]
    assert not torch.equal(*weights)


def test_teaching_reads_training_tapes_only(finished):
    _, _, _, parts = finished
    assert set(parts) == {"training"}
    assert len(parts) >= 3


def test_curves_are_in_tensorboard(finished):
    out, _, _, _ = finished
    events = EventAccumulator(str(out / "tb")).Reload()
    tags = set(events.Tags()["scalars"])
    wanted = {"loss", "agreement", "regret_mg", "miss_price_factor", "lessons_miss_rate"}
    wanted |= {"carbon_mg_per_request", "slo_miss_rate", "episodes_meeting_slo", "latency_p95_ms"}
    assert {f"teach/{name}" for name in wanted} <= tags
    assert [event.step for event in events.Scalars("teach/loss")] == [1, 2, 3]


def test_table_shows_what_each_stage_adds(finished):
    out, _, _, _ = finished
    lines = stage_table([out]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "slo-predictive-budget", *(["learned-risk"] if any("learned-risk" in line for line in lines) else []),
        "untaught", "clone", "dagger", "rl",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no stages\.json"):
        stage_table([out / "tb"])


def test_a_stopped_teaching_goes_on_and_ends_the_same(finished, lab, site, tmp_path, monkeypatch):
    out, (whole, _, _, _) = tmp_path / "run", finished
    paused = []

    def pause(self):
        paused.append(1)
        if len(paused) == 3:  # clone is done, the second round of DAgger is not
            raise StopTraining

    with monkeypatch.context() as patch:
        patch.setattr(training_session.Checkpoints, "pause", pause)
        with pytest.raises(CarbonPilotError, match="Stopped when asked to, before the first checkpoint"):
            train(lab, site, out)
    names = [row["name"] for row in json.loads((out / "stages.json").read_text())["stages"]]
    assert names == ["untaught", "clone"]
    result, _ = train(lab, site, out, resume=True)
    assert result.steps == STEPS
    book = json.loads((out / "stages.json").read_text())
    assert [row["name"] for row in book["stages"]] == ["untaught", "clone", "dagger", RL]
    assert (
        book["stages"][2]["agreement"]
        == json.loads((whole / "stages.json").read_text())["stages"][2]["agreement"]
    )
    ours, theirs = (
        load_model("ppo", run / "stages" / "02-dagger.zip").policy.state_dict() for run in (out, whole)
    )
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name].numpy(), values.numpy())


def test_a_taught_run_resumes_in_its_rl_without_being_taught_again(finished, lab, site, monkeypatch):
    out, _, _, _ = finished
    rows = json.loads((out / "stages.json").read_text())["stages"]
    monkeypatch.setattr(school.School, "teach", lambda self, model: pytest.fail("taught twice"))
    result, _ = lab.train(site, out, 2 * STEPS, settings=SETTINGS, resume=True)
    assert result.steps == 2 * STEPS
    again = json.loads((out / "stages.json").read_text())["stages"]
    assert again[:-1] == rows[:-1]
    assert again[-1]["requests"] == 2 * STEPS


def test_the_model_of_the_best_stage_is_handed_out(finished, lab, site, tmp_path, monkeypatch):
    """Whatever the RL did: the better stage's model is the run's, its bundle's and what is evaluated last."""
    out = tmp_path / "run"
    came_to = {"untaught": (0.4, 0.5), "clone": (0.4, 0.9), "dagger": (0.4, 0.99), RL: (0.3, 0.85)}
    scored = school.School._close

    def close(self, model, name, row, keep=True):
        with pytest.MonkeyPatch.context() as patch:
            scores = dict(zip(("carbon_mg_per_request", "episodes_meeting_slo"), came_to[name], strict=True))
            scores |= {"slo_miss_rate": 0.01, "latency_p95_ms": 100.0}
            patch.setattr(school.School, "_scores", lambda *_: scores)
            scored(self, model, name, row, keep)

    monkeypatch.setattr(school.School, "_close", close)
    _, text = train(lab, site, out)
    assert json.loads((out / "stages.json").read_text())["handed_out"] == "dagger"
    assert "handed out: the model after 'dagger', 0.400 mg a request, SLO met in 99.0%" in text
    assert "'rl' after it came to" in text
    handed_out, dagger, last = (
        load_model("ppo", file).policy.state_dict()
        for file in (out / "model.zip", out / "stages" / "02-dagger.zip", RunDir(out).checkpoints()[-1].model)
    )
    assert all(torch.equal(handed_out[name], dagger[name]) for name in dagger)
    assert any(not torch.equal(handed_out[name], last[name]) for name in last)
    frozen = FrozenPolicy.load(export_run(out, tmp_path / "bundle"))
    assert frozen.card["training"]["stages"]["handed_out"] == "dagger"
    assert [row["name"] for row in frozen.card["training"]["stages"]["stages"]] == list(came_to)
    observation = simulated_observations(load_scenario(site), 50)
    mask = np.ones((50, 5), dtype=bool)
    assert (frozen.decide(observation, mask) == Sb3Policy.load(out).decide(observation, mask)).all()
    came_to[RL] = (0.3, 0.99)
    again, _ = lab.train(site, out, 2 * STEPS, settings=SETTINGS, resume=True)
    assert again.steps == 2 * STEPS, "the RL goes on from its own last state"
    assert json.loads((out / "stages.json").read_text())["handed_out"] == RL
    assert (out / "model.zip").read_bytes() == RunDir(out).checkpoints()[-1].model.read_bytes()


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.50, 1.0), (0.40, 0.9925), (0.38, 0.9875)], 1),  # carbon among those that reach the aim
        ([(0.40, 0.99), (0.40, 1.0)], 0),  # nothing gained, nothing changed
        (
            [(0.50, 0.96), (0.40, 0.90), (0.49, 0.96)],
            2,
        ),  # none reaches it: each point costs 5 % of the carbon
    ],
)
def test_which_stage_is_the_best(rows, best):
    named = [
        {"name": str(i), "carbon_mg_per_request": mg, "episodes_meeting_slo": met}
        for i, (mg, met) in enumerate(rows)
    ]
    assert best_stage(named)["name"] == str(best)


@pytest.fixture(scope="module")
def without_rl(lab, site, tmp_path_factory):
    """A run that was taught and made no step of RL: its folder, result and text."""
    out = tmp_path_factory.mktemp("taught") / "run"
    return (out, *lab.train(site, out, 0, settings=SETTINGS))


def test_without_rl_the_taught_model_is_the_runs(without_rl, lab, site, tmp_path):
    out, result, text = without_rl
    run, book = RunDir(out), json.loads((out / "stages.json").read_text())
    assert (result.steps, run.finished, run.progress()["steps_target"]) == (0, True, 0)
    assert [row["name"] for row in book["stages"]] == ["untaught", "clone", "dagger"]
    assert book["handed_out"] in ("untaught", "clone", "dagger")
    assert f"'{book['handed_out']}'" in text
    assert result.evaluation["eval/carbon_mg_per_request"] > 0
    assert result.emissions["energy_kwh"] > 0
    assert Sb3Policy.load(out).note == ""
    card = FrozenPolicy.load(export_run(out, tmp_path / "bundle")).card
    assert (card["training"]["steps"], card["training"]["finished"]) == (0, True)
    played = benchmark(load_scenario(site), [str(out), str(tmp_path / "bundle")], episodes=3, seed=5)
    assert played["run"].metrics["carbon_mg_per_request"] == pytest.approx(
        played["bundle"].metrics["carbon_mg_per_request"]
    )
    tags = EventAccumulator(str(out / "tb")).Reload().Tags()["scalars"]
    assert {"teach/loss", "eval/carbon_mg_per_request", "emissions/energy_wh"} <= set(tags)
    _, text = lab.train(site, out, 0, settings=SETTINGS, resume=True)
    assert "has made its 0 steps already: nothing to do" in text


def test_rl_can_follow_later(without_rl, lab, site, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(without_rl[0], out)
    monkeypatch.setattr(school.School, "teach", lambda self, model: pytest.fail("taught twice"))
    result, text = lab.train(site, out, STEPS, settings=SETTINGS, resume=True)
    assert (result.steps, RunDir(out).finished) == (STEPS, True)
    assert "resuming" in text
    names = [row["name"] for row in json.loads((out / "stages.json").read_text())["stages"]]
    assert names == ["untaught", "clone", "dagger", RL]


def test_no_steps_and_no_teacher_is_refused(lab, site, tmp_path):
    with pytest.raises(InputError, match="these settings have no `teacher`"):
        lab.train(site, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


def test_dqn_can_be_taught(lab, site, tmp_path):
    settings = {"teacher": {**TEACHER, "stages": TEACHER["stages"][:1], "actor_frozen_steps": 0}}
    lab.train(site, tmp_path / "run", 256, "dqn", settings=settings)
    names = [row["name"] for row in json.loads((tmp_path / "run" / "stages.json").read_text())["stages"]]
    assert names == ["untaught", "clone", RL]


@pytest.mark.parametrize(
    ("algo", "settings", "message"),
    [
        ("dqn", {"teacher": TEACHER}, r"teacher\.actor_frozen_steps: dqn has no actor"),
        ("ppo", {"teacher": TEACHER, "stack": 2}, r"single observations.*got ppo with `stack: 2`"),
        ("ppo", {"teacher": {**TEACHER, "stages": []}}, r"teacher\.stages"),
        ("ppo", {"teacher": {**TEACHER, "orakel": 1}}, r"teacher\.orakel"),
        (
            "dqn",
            {"teacher": {**TEACHER, "actor_frozen_steps": 0, "labels_in": "local"}},
            r"teacher\.labels_in: dqn learns the reward.*expected mg, got local",
        ),
        ("ppo", {"teacher": {**TEACHER, "labels_in": "kg"}}, r"teacher\.labels_in"),
        ("dqn", {"tape_baseline": True}, "tape_baseline"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_anything_starts(
    lab, site, tmp_path, algo, settings, message
):
    with pytest.raises(InputError, match=message):
        lab.train(site, tmp_path / "run", STEPS, algo, settings=settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("algo", "loss"), [("ppo", "cost"), ("maskable-ppo", "regress"), ("dqn", "regress")])
def test_a_policy_over_a_risk_head_is_taught_from_where_it_stands(lab, site, tmp_path, algo, loss):
    head = make_risk(tmp_path / "risk", load_scenario(site))
    stages = [{**TEACHER["stages"][1], "loss": loss, "rounds": 1}]
    settings = {"teacher": {**TEACHER, "stages": stages, "actor_frozen_steps": 0}}
    small = lab.small["dqn" if algo == "dqn" else "ppo"]
    lab.train(site, tmp_path / "run", 256, algo, settings={**small, **settings}, risk=head)
    before, after = (
        load_model(algo, tmp_path / "run" / "stages" / name) for name in ("00-untaught.zip", "01-dagger.zip")
    )
    was, now = (model.policy.state_dict() for model in (before, after))
    frozen = [name for name in was if "features_extractor" in name]
    assert frozen
    assert all(torch.equal(was[name], now[name]) for name in frozen), "the head itself is never taught"
    assert any(not torch.equal(was[name], now[name]) for name in was)


@pytest.mark.parametrize("name", ["ppo-taught", "ppo-risk-taught", "ppo-risk-taught-quick"])
def test_shipped_settings_are_whole(name):
    settings, _ = load_training_config("ppo", "metro", "metro", CONFIGS / f"{name}.yaml")
    assert settings.teacher is not None
    assert settings.teacher.stages[-1].follow == "learner"


def test_the_demos_settings_are_the_longer_ones_but_for_what_they_explain():
    long, short = (
        load_training_config("ppo", "metro", "metro", CONFIGS / f"{name}.yaml")[0].model_dump()
        for name in ("ppo-risk-taught", "ppo-risk-taught-quick")
    )
    for settings in (long, short):
        keys = ("stages", "actor_frozen_steps", "miss_price", "held_back")
        settings["differs"] = [settings["teacher"].pop(key) for key in keys]
        settings["differs"].append(settings.pop("evaluations"))
    assert short.pop("differs") != long.pop("differs")
    assert short == long
