"""A run can be killed at any moment and continued; only steps since the last checkpoint are made again."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from carbonpilot.agents import training_session
from carbonpilot.agents.algorithms import load_model
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.envs.errors import CarbonPilotError, InputError

ROLLOUT = 256  # environment steps between two updates of the small PPO


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


def scalar_steps(out, tag="time/fps"):
    """Steps in ascending order: event files begun within one second are read in the order of their process ids."""
    events = EventAccumulator(str(out / "tb")).Reload()
    return sorted(event.step for event in events.Scalars(tag))


def test_killed_run_goes_on_from_its_checkpoint(lab, site, tmp_path):
    out, target = tmp_path / "run", 200 * ROLLOUT
    code = (
        "from carbonpilot.agents.train import train\n"
        f"train({str(site)!r}, 'ppo', {target}, 5, {str(out)!r}, settings={lab.small_ppo!r}, "
        f"checkpoint_every={4 * ROLLOUT})"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(out.glob("checkpoints/step-*"))) < 2 and time.monotonic() < deadline:
            assert child.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    checkpoint = RunDir(out).checkpoints()[-1]
    assert 0 < checkpoint.steps < target
    assert not RunDir(out).finished
    unfinished = Sb3Policy.load(out)
    assert unfinished.name == f"run@{checkpoint.steps}"
    assert "not finished" in unfinished.note

    end = checkpoint.steps + 4 * ROLLOUT
    result, text = lab.train(site, out, end, resume=True)
    assert result.steps == end
    assert f"at step {checkpoint.steps}" in text
    assert scalar_steps(out) == list(range(ROLLOUT, end + 1, ROLLOUT)), "each rollout once, none missing"
    assert load_model("ppo", out / "model.zip").num_timesteps == end
    emissions = json.loads((out / "emissions.json").read_text())
    first, second = emissions["sessions"]
    assert (first["complete"], second["complete"]) == (False, True)
    assert emissions["energy_kwh"] == pytest.approx(first["energy_kwh"] + second["energy_kwh"])
    steps = [
        session["steps_before"] for session in json.loads((out / "versions.json").read_text())["sessions"]
    ]
    assert steps == [0, checkpoint.steps]


def test_sigterm_saves_and_says_how_to_go_on(lab, site, tmp_path):
    out = tmp_path / "run"

    def stop_when_it_runs():
        while not list(out.glob("checkpoints/step-*")):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    watcher = threading.Thread(target=stop_when_it_runs, daemon=True)
    watcher.start()
    with pytest.raises(CarbonPilotError, match=r"Stopped when asked to, at step \d+ of .*--resume"):
        lab.train(site, out, 10_000 * ROLLOUT, checkpoint_every=2 * ROLLOUT)
    watcher.join(5)
    assert signal.getsignal(signal.SIGTERM) is before
    progress = RunDir(out).progress()
    assert progress["status"] == "stopped"
    assert RunDir(out).checkpoints()[-1].steps == progress["steps"]
    assert json.loads((out / "emissions.json").read_text())["sessions"][0]["complete"]


def test_a_resumed_session_sees_other_tapes(lab, site, tmp_path):
    """Model and optimiser are those of the checkpoint; only the random streams are new."""
    out = tmp_path / "run"
    lab.train(site, out, 2 * ROLLOUT)
    saved = load_model("ppo", RunDir(out).checkpoints()[-1].model)
    assert saved.policy.optimizer.state_dict()["state"], "the optimiser's moments belong to a checkpoint"
    lab.train(site, out, 4 * ROLLOUT, resume=True)
    whole = tmp_path / "whole"
    lab.train(site, whole, 4 * ROLLOUT)
    resumed, straight = (load_model("ppo", folder / "model.zip") for folder in (out, whole))
    assert resumed.num_timesteps == straight.num_timesteps == 4 * ROLLOUT
    assert resumed._n_updates == straight._n_updates


def test_finished_run_has_nothing_to_do_and_can_be_extended(lab, site, tmp_path):
    out = tmp_path / "run"
    lab.train(site, out, 2 * ROLLOUT)
    model = (out / "model.zip").read_bytes()
    result, text = lab.train(site, out, 2 * ROLLOUT, resume=True)
    assert "nothing to do" in text
    assert (result.steps, result.evaluation) == (2 * ROLLOUT, {})
    assert (out / "model.zip").read_bytes() == model
    result, _ = lab.train(site, out, 3 * ROLLOUT, resume=True)
    assert result.steps == 3 * ROLLOUT
    assert scalar_steps(out) == [ROLLOUT, 2 * ROLLOUT, 3 * ROLLOUT]


def test_dqn_resumes_with_its_replay_buffer(lab, site, tmp_path):
    out = tmp_path / "run"
    lab.train(site, out, 800, "dqn")
    buffers = []

    def keep(model, callbacks):
        buffer = model.replay_buffer
        buffers.append((buffer.pos, buffer.full, buffer.rewards.copy(), buffer.observations.copy()))
        return original(session, model, callbacks)

    original = training_session.TrainingSession._learn
    with pytest.MonkeyPatch.context() as patch:
        session = None

        def learn(self, model, callbacks):
            nonlocal session
            session = self
            return keep(model, callbacks)

        patch.setattr(training_session.TrainingSession, "_learn", learn)
        lab.train(site, out, 1600, "dqn", resume=True)
    position, full, rewards, observations = buffers[0]
    assert (position, full) == (100, False)
    assert np.abs(rewards[:100]).sum() > 0
    assert np.isfinite(observations).all()
    with np.load(RunDir(out).checkpoints()[-1].folder / "replay.npz") as saved:
        assert bool(saved["full"])
        assert len(saved["rewards"]) == 128
        np.testing.assert_array_equal(saved["rewards"][int(saved["position"]) : 100], rewards[72:100])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"gamma": 0.7}}, r"settings\.gamma: the run has 0\.9, now 0\.7"),
        ({"seed": 6}, "seed: the run has 5, now 6"),
        ({"algo": "dqn"}, "algorithm: the run has 'ppo', now 'dqn'"),
    ],
)
def test_another_config_is_refused_by_name(lab, site, tmp_path, change, message):
    out = tmp_path / "run"
    lab.train(site, out, ROLLOUT)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(InputError, match=message):
        lab.train(site, out, 2 * ROLLOUT, resume=True, **change)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_scenario_is_refused_by_key(lab, site, tmp_path):
    out = tmp_path / "run"
    lab.train(site, out, ROLLOUT)
    changed = lab.site(tmp_path, payload="{low_kb: 1, high_kb: 2}")
    with pytest.raises(InputError, match=r"scenario payload\.high_kb: the run has .*, now 2"):
        lab.train(changed, out, 2 * ROLLOUT, resume=True)


def test_another_feature_table_is_refused(lab, site, tmp_path):
    """By the features where the scenario changed them, in words where this version builds another table."""
    out = tmp_path / "run"
    lab.train(site, out, ROLLOUT)
    slower = lab.site(tmp_path, slo="{latency_ms: 200, quantile: 0.95}")
    with pytest.raises(
        InputError, match=r"scenario slo\.latency_ms: (.|\n)*observation table: '.*_latency_ms' has"
    ):
        lab.train(slower, out, 2 * ROLLOUT, resume=True)
    config = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(config.replace("table_sha256: ", "table_sha256: 0"))
    with pytest.raises(InputError, match="observation table: it was built by another version"):
        lab.train(site, out, 2 * ROLLOUT, resume=True)


def test_resume_needs_a_run(lab, site, tmp_path):
    with pytest.raises(InputError, match="is not a run folder"):
        lab.train(site, tmp_path / "nowhere", ROLLOUT, resume=True)


def test_full_disk_keeps_the_last_checkpoint(lab, site, tmp_path, monkeypatch):
    out, saved = tmp_path / "run", []
    original = training_session.save_model

    def save(model, folder):
        original(model, folder)
        saved.append(model.num_timesteps)
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training_session, "save_model", save)
    with pytest.raises(CarbonPilotError, match=r"disk is full(.|\n)*at step \d+ of .*--resume") as caught:
        lab.train(site, out, 6 * ROLLOUT, checkpoint_every=2 * ROLLOUT)
    assert caught.value.exit_code == 1
    assert [c.steps for c in RunDir(out).checkpoints()] == [2 * ROLLOUT]
    assert not list(out.glob("checkpoints/.*")), "the half-written checkpoint must be gone"
    assert Sb3Policy.load(out).steps == 2 * ROLLOUT
    result, _ = lab.train(site, out, 6 * ROLLOUT, resume=True)
    assert result.steps == 6 * ROLLOUT
    assert scalar_steps(out) == list(range(ROLLOUT, 6 * ROLLOUT + 1, ROLLOUT))
