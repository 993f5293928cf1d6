"""A sweep on a real Ray instance here: a killed worker's trial is run again, results are those without Ray."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time

import numpy as np
import pytest
import yaml

pytest.importorskip("ray", reason="ray is not installed: pip install 'carbonpilot[ray]'")

from carbonpilot.agents.algorithms import load_model
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.risk.train import run_risk_training
from carbonpilot.agents.sweep.folder import SweepFolder
from carbonpilot.agents.sweep.ray_engine import RayEngine
from carbonpilot.agents.sweep.ray_worker import Job, check_folder, play
from carbonpilot.agents.sweep.run import Sweep
from carbonpilot.agents.sweep.spec import read_spec
from carbonpilot.agents.sweep.trial import expand
from carbonpilot.agents.training_guard import one_torch_thread
from carbonpilot.envs.errors import InputError

HEAD = {
    "rounds": 0, "episodes": 8, "share": 0.5, "hidden": [8], "epochs": 1, "batch_size": 64, "quick_trials": 4,
    "quick_tapes": 2, "trials": 4, "search_tapes": 2, "selection_tapes": 2, "calibration_tapes": 4,
}  # fmt: skip


def prepare(lab, tmp_path, name):
    """A risk head and an agent over it. One training alone: each process takes seconds to import what it needs."""
    lab.site(tmp_path)
    small = {**lab.small_ppo, "checkpoint_share": 1.0}
    agent = {"algo": "ppo", "steps": 8 * lab.rollout, "settings": small, "risk": "train"}
    content = {
        "schema": "carbonpilot/sweep/1",
        "scenarios": ["short-site.yaml"],
        "seeds": [0],
        "agents": {"ppo": agent},
        "heads": {"settings": HEAD},
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    trials = expand(read_spec(file), tmp_path)
    folder = SweepFolder(tmp_path / name)
    folder.add(trials)
    return folder, trials


def weights(run, seed_folder):
    model = load_model("ppo", run / seed_folder / "model.zip")
    return {name: value.numpy() for name, value in model.policy.state_dict().items()}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_a_killed_workers_trial_is_run_again_and_results_are_those_without_ray(lab, tmp_path):
    folder, trials = prepare(lab, tmp_path, "ray")
    head, ppo = trials
    killed = []

    def kill_the_first_worker():
        """As soon as its training has begun, and before its first checkpoint."""
        log = folder.log(ppo.name)
        run = folder.run(ppo.name)
        while not (run / "progress.json").is_file():
            time.sleep(0.005)
        worker = int(re.findall(r"started by process (\d+)", log.read_text())[0])
        assert worker != os.getpid()
        os.kill(worker, signal.SIGKILL)
        killed.append(list(run.glob("checkpoints/step-*")))

    watcher = threading.Thread(target=kill_the_first_worker, daemon=True)
    watcher.start()
    said = []
    Sweep(folder, trials, RayEngine(folder, 2, None), said.append, lambda *_: None).run()
    watcher.join(5)
    assert killed == [[]], "killed before its first checkpoint, so it starts from the first step"
    assert any("lost, is tried again: the worker was lost (WorkerCrashedError)" in line for line in said)
    state = json.loads((folder.path / "sweep.json").read_text())["trials"]
    assert [state[t.name]["attempts"] for t in trials] == [1, 2]
    assert {state[t.name]["status"] for t in trials} == {"finished"}

    site, plain = tmp_path / "short-site.yaml", tmp_path / "plain"  # the same trainings here, by hand
    with one_torch_thread():
        run_risk_training(str(site), plain / "head", seed=0, changes=HEAD)
    with_ray, without = read_risk(folder.run(head.name)), read_risk(plain / "head")
    assert with_ray.card.price == without.card.price
    same(with_ray.arrays, without.arrays)
    changes = {"checkpoint_share": 1.0}
    lab.train(site, plain / ppo.name, ppo.plan.steps, seed=0, settings=changes, risk=plain / "head")
    same(weights(folder.path / "runs", ppo.name), weights(plain, ppo.name))


def test_a_machine_that_sees_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not see the sweep's folder .*shared file system"):
        check_folder(tmp_path, "token")
    (tmp_path / "sweep.json").write_text(json.dumps({"token": "another"}))
    job = Job(str(tmp_path), "token", "a", ("train",), str(tmp_path / "log"))
    with pytest.raises(InputError, match="does not see"):
        play(job)
    check_folder(tmp_path, "another")


def test_a_worker_stops_its_training_when_the_stop_file_appears(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"token": "mine"}))
    (tmp_path / "stop").touch()
    log = tmp_path / "logs" / "a.log"
    assert play(Job(str(tmp_path), "mine", "a", ("doctor",), str(log))) == -signal.SIGTERM
