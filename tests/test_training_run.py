"""One run of each algorithm: what the folder holds, what TensorBoard shows, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, scenario_sha256

STEPS = 2048
TRACES = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


WITHOUT_MEMORY = ["ppo", "maskable-ppo", "dqn", "qrdqn"]


@pytest.fixture(scope="module", params=[*WITHOUT_MEMORY, "recurrent-ppo"])
def finished(request, lab, site, tmp_path_factory):
    """A finished run; the working directory is watched for files that do not belong there."""
    here = tmp_path_factory.mktemp("cwd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        result, text = lab.train(site, here / "out", STEPS, request.param, seed=3)
    return request.param, here, result, text


def test_folder_holds_what_the_page_says(finished, lab, site):
    algo, here, result, _ = finished
    out = result.run_dir
    assert {path.name for path in here.iterdir()} == {"out"}, "a file was dropped into the working directory"
    names = {path.name for path in out.iterdir()}
    assert names == {
        "checkpoints", "commit", "config.yaml", "emissions.json", "model.zip", "normalizer.npz",
        "progress.json", "scenario.yaml", "scenario_sha256", "seed", "tb", "versions.json",
    }  # fmt: skip
    assert (out / "seed").read_text() == "3\n"
    assert (out / "scenario_sha256").read_text().strip() == scenario_sha256(load_scenario(site))
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["algorithm"] == algo
    assert config["settings"]["num_envs"] == lab.small[algo]["num_envs"]
    [session] = json.loads((out / "versions.json").read_text())["sessions"]
    assert session["versions"]["torch"] == torch.__version__
    assert json.loads((out / "progress.json").read_text())["status"] == "finished"
    assert 1 <= len(RunDir(out).checkpoints()) <= 2


def test_steps_are_those_asked_for(finished):
    _, _, result, _ = finished
    assert result.steps == STEPS
    assert RunDir(result.run_dir).checkpoints()[-1].steps == STEPS


def test_emissions_are_measured_and_say_how(finished):
    _, _, result, text = finished
    document = json.loads((result.run_dir / "emissions.json").read_text())
    [session] = document["sessions"]
    assert session["complete"]
    assert session["country_iso_code"] == "GBR"
    assert document["energy_kwh"] > 0
    assert document["emissions_g"] == pytest.approx(document["energy_kwh"] * session["carbon_g_per_kwh"])
    assert 0 < document["duration_s"] < 600
    assert session["method"]
    assert "GBR" in text, "the grid must be visible, not only recorded"


def test_text_names_the_tensorboard_command(finished):
    _, _, result, text = finished
    assert f"tensorboard --logdir {result.run_dir / 'tb'}" in text
    assert text.count("steps/s") == 10, "ten plain lines where there is no terminal"


def test_tensorboard_shows_metrics_terms_and_evaluations(finished):
    algo, _, result, _ = finished
    events = EventAccumulator(str(result.run_dir / "tb")).Reload()
    tags = set(events.Tags()["scalars"])
    scenario = RunDir(result.run_dir).scenario
    wanted = {
        "carbon/mg_per_request", "slo/miss_rate", "latency/p95_ms", "rollout/ep_rew_mean",
        "emissions/energy_wh", "eval/carbon_mg_per_request", "eval/slo_miss_rate",
        "eval/episodes_meeting_slo",
        "eval/oracle_saving_share",
    }  # fmt: skip
    wanted |= {f"placement/{p.name}" for p in scenario.placements}
    wanted |= {f"reward/{term}" for term in ("carbon", "slo_miss", "latency_excess", "accuracy")}
    wanted |= {f"constraint/{name}" for name in ("multiplier", "target")}
    wanted |= {"train/loss"} if "dqn" in algo else {"train/approx_kl", "train/value_loss"}
    assert wanted <= tags, f"missing: {wanted - tags}"
    shares = [events.Scalars(f"placement/{p.name}")[-1].value for p in scenario.placements]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    evaluations = events.Scalars("eval/carbon_mg_per_request")
    assert [event.step for event in evaluations] == [STEPS // 2, STEPS]
    assert evaluations[-1].value == pytest.approx(result.evaluation["eval/carbon_mg_per_request"], rel=1e-6)


# With a memory scores depend on what was seen before: test_training_memory.py.
@pytest.mark.parametrize("finished", WITHOUT_MEMORY, indirect=True)
def test_policy_is_greedy_masked_and_normalised(finished):
    _, _, result, _ = finished
    run = RunDir(result.run_dir)
    policy = Sb3Policy.load(result.run_dir, run.scenario)
    mean, std = run.normalizer
    rng = np.random.default_rng(0)
    observation = (mean + rng.normal(size=(64, len(mean))) * std).astype(np.float32)
    everything = np.ones((64, len(run.scenario.placements)), dtype=bool)
    scores = policy.scores(observation)
    free = policy.decide(observation, everything)
    np.testing.assert_array_equal(free, scores.argmax(axis=1))
    greedy, _ = policy.model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(free, greedy)
    without = everything.copy()
    without[np.arange(64), free] = False
    second = policy.decide(observation, without)
    assert (second != free).all()
    np.testing.assert_array_equal(second, np.argsort(scores, axis=1)[:, -2])
    assert policy.decide(observation[0], everything[0]) == free[0]
    assert isinstance(policy.decide(observation[0], everything[0]), int)


def test_a_run_for_another_site_is_refused(finished, lab, tmp_path):
    _, _, result, _ = finished
    with pytest.raises(InputError, match="family"):
        Sb3Policy.load(result.run_dir, load_scenario("khan-lan"))
    other = load_scenario(lab.site(tmp_path, slo="{latency_ms: 100, quantile: 0.95}"))
    with pytest.raises(InputError, match=r"sees other features .*latency_ms"):
        Sb3Policy.load(result.run_dir, other)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a run folder"):
        Sb3Policy.load(tmp_path)


def test_a_taken_folder_is_refused_and_left_alone(finished, lab, site, tmp_path):
    algo, _, result, _ = finished
    before = {path: path.stat().st_mtime_ns for path in result.run_dir.rglob("*")}
    with pytest.raises(InputError, match="holds a run already"):
        lab.train(site, result.run_dir, STEPS, algo, seed=3)
    assert {path: path.stat().st_mtime_ns for path in result.run_dir.rglob("*")} == before
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        lab.train(site, tmp_path, STEPS, algo, seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"country": "GRB"}, "no grid for country 'GRB'"),
        ({"traces": "nowhere"}, "reads no trace folder"),
    ],
)
def test_bad_calls_leave_nothing_behind(lab, site, tmp_path, changes, message):
    options = {"steps": 256, **changes}
    with pytest.raises(InputError, match=message):
        lab.train(site, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_recorded_files_need_their_folder(lab, tmp_path):
    with pytest.raises(InputError, match="--traces DIR"):
        lab.train("metro-traces", tmp_path / "out", 256)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the trace folder ../shared/data is not here")
def test_training_on_recorded_files(lab, tmp_path):
    out = tmp_path / "out"
    few = {"evaluations": 1, "evaluation_episodes": 2}
    result, _ = lab.train("metro", out, 512, traces=TRACES, settings=few)
    assert result.steps == 512
    run = RunDir(out)
    assert run.scenario.name == "metro-traces"
    assert run.config["traces"]["folder"] == str(TRACES)
    assert len(run.config["traces"]["fingerprint"]) == 64
    assert Sb3Policy.load(out, load_scenario("metro")).steps == 512, "one family, one observation table"
