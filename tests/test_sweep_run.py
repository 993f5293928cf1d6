"""A sweep runs what is missing, tries lost trials again, records failures, and stops cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import yaml
from processes import assert_ends_with

from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.seed_levels import read_training, siblings
from carbonpilot.agents.sweep.folder import SweepFolder
from carbonpilot.agents.sweep.local import LocalEngine
from carbonpilot.agents.sweep.process import Ended, start
from carbonpilot.agents.sweep.run import Sweep
from carbonpilot.agents.sweep.spec import read_spec
from carbonpilot.agents.sweep.trial import expand
from carbonpilot.envs.errors import CarbonPilotError
from carbonpilot.envs.files import write_json


@pytest.fixture
def prepared(lab, tmp_path):
    """A function: a sweep of so many seeds of a small PPO, its trials and its folder."""

    def build(seeds=2, steps=2 * lab.rollout):
        lab.site(tmp_path)
        agent = {"algo": "ppo", "steps": steps, "settings": lab.small_ppo}
        content = {
            "schema": "carbonpilot/sweep/1",
            "scenarios": ["short-site.yaml"],
            "seeds": list(range(seeds)),
            "agents": {"ppo": agent},
        }
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump(content))
        trials = expand(read_spec(file), tmp_path)
        folder = SweepFolder(tmp_path / "out")
        folder.add(trials)
        return folder, trials

    return build


class Scripted:
    """An engine that plays prepared endings, one attempt each: an exit code, or None for a lost process."""

    def __init__(self, folder, endings, jobs=2):
        self.folder, self.endings, self.jobs = folder, {k: list(v) for k, v in endings.items()}, jobs
        self.on_their_way, self.started, self.most, self.closed, self.stopped = [], [], 0, False, False

    @property
    def running(self):
        return len(self.on_their_way)

    def start(self, trial):
        self.on_their_way.append(trial)
        self.started.append(trial.name)
        self.most = max(self.most, self.running)

    def wait(self):
        if not self.on_their_way:
            return []
        trial = self.on_their_way.pop(0)
        code = self.endings.get(trial.name, [0]).pop(0)
        if code == 0:
            self.finish(trial)
        return [Ended(trial.name, code, "the worker was lost" if code is None else "")]

    def finish(self, trial):
        path = self.folder.run(trial.name)
        path.mkdir(parents=True)
        write_json(path / "progress.json", {"status": "finished", "steps": trial.plan.steps})

    def stop(self):
        self.stopped = True

    def close(self):
        self.closed = True


def play(folder, trials, engine, **options):
    said = []
    sweep = Sweep(folder, trials, engine, said.append, lambda *_: None, **options)
    try:
        sweep.run()
    except CarbonPilotError as error:
        return said, str(error)
    return said, ""


def test_lost_trials_are_tried_again_and_failed_ones_are_not(prepared):
    folder, trials = prepared(seeds=4)
    names = [trial.name for trial in trials]
    folder.log(names[1]).parent.mkdir(parents=True)
    folder.log(names[1]).write_text("training ...\ncarbonpilot: error: the disk is full\n")
    engine = Scripted(folder, {names[0]: [None, None, 0], names[1]: [1], names[2]: [None, None, None]})
    said, error = play(folder, trials, engine, retries=2)
    assert "2 of 4 trials failed, 2 are finished" in error
    assert f"{names[1]}: the disk is full" in error
    assert engine.started.count(names[0]) == 3
    assert engine.started.count(names[1]) == 1
    assert engine.started.count(names[2]) == 3
    assert engine.most == 2
    assert engine.closed
    state = json.loads((folder.path / "sweep.json").read_text())["trials"]
    assert [state[name]["status"] for name in names] == ["finished", "failed", "failed", "finished"]
    assert [state[name]["attempts"] for name in names] == [3, 1, 3, 1]
    assert state[names[1]]["reason"] == "the disk is full"
    assert state[names[2]]["reason"] == "the worker was lost"

    again = Scripted(SweepFolder(folder.path), {})
    said, error = play(again.folder, trials, again)
    assert error == ""
    assert sorted(again.started) == sorted(names[1:3]), (
        "finished trials are skipped, failed ones tried once more"
    )
    assert "4 trials, 2 of them finished already" in said[0]


def test_a_signal_stops_the_sweep_and_nothing_new_starts(prepared):
    folder, trials = prepared(seeds=5)

    class Interrupted(Scripted):
        def wait(self):
            if len(self.started) == 2 and not self.stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
                return []
            return super().wait()

    engine = Interrupted(folder, {trials[1].name: [1]})
    before = signal.getsignal(signal.SIGTERM)
    _, error = play(folder, trials, engine)
    assert "Stopped when asked to, 1 of 5 trials are finished. The same command goes on" in error
    assert engine.stopped
    assert len(engine.started) == 2
    assert signal.getsignal(signal.SIGTERM) is before
    statuses = [folder.trials[trial.name]["status"] for trial in trials]
    assert statuses == ["finished", "interrupted", "waiting", "waiting", "waiting"]


def test_an_exit_code_of_0_without_a_finished_run_is_a_failure(prepared):
    folder, trials = prepared(seeds=1)
    engine = Scripted(folder, {trials[0].name: [0]})
    engine.finish = lambda trial: None
    _, error = play(folder, trials, engine)
    assert "1 of 1 trials failed" in error


def test_a_child_does_not_outlive_the_process_that_started_it(tmp_path):
    """Else a trial that is started again would be trained twice at the same time."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom carbonpilot.agents.sweep import process\n"
        "child = process.start(('run', '--help'), Path(sys.argv[1]) / 'log')\n"
        "child.kill(); child.wait()\n"
        "import subprocess\n"
        "wait = 'import carbonpilot.agents.sweep.child as c, sys, time; c.die_with_parent(int(sys.argv[1])); "
        "print(1, flush=True); time.sleep(60)'\n"
        "import os\n"
        "child = subprocess.Popen([sys.executable, '-c', wait, str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert_ends_with(parent, 20)


def test_a_log_says_who_started_it(tmp_path):
    process = start(("--version",), tmp_path / "logs" / "a.log")
    assert process.wait(60) == 0
    lines = (tmp_path / "logs" / "a.log").read_text().splitlines()
    assert f"started by process {os.getpid()}" in lines[0]
    assert lines[-1].startswith("0.")


class Quick:
    """A folder whose trials are commands that end by themselves."""

    def __init__(self, path):
        self.path = path

    def words(self, trial):
        return ("--version",)

    def log(self, name):
        return self.path / name


def test_processes_run_side_by_side_and_are_stopped_together(tmp_path):
    engine, names = LocalEngine(Quick(tmp_path), 2), {"a", "b"}

    def run(ask):
        for name in names:
            engine.start(SimpleNamespace(name=name))
        assert engine.running == 2
        ask()
        ends = []
        while engine.running:
            ends += engine.wait()
        return {end.name: (end.code, end.reason) for end in ends}

    assert run(lambda: None) == dict.fromkeys(names, (0, ""))
    killed = run(engine.stop)
    assert killed == dict.fromkeys(names, (None, "killed by signal 15; was there too little memory?"))


def test_trials_are_ordinary_runs_and_an_interrupted_one_goes_on(prepared, lab):
    """A real training is asked to stop on its way and goes on from its checkpoint; another one is there already."""
    folder, trials = prepared(seeds=2, steps=24 * lab.rollout)
    lab.train(trials[0].scenario, folder.run(trials[0].name), trials[0].steps, seed=0)

    def stop_when_one_has_a_checkpoint():
        while not list(folder.run(trials[1].name).glob("checkpoints/step-*")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_when_one_has_a_checkpoint, daemon=True)
    watcher.start()
    said, error = play(folder, trials, LocalEngine(folder, 2))
    watcher.join(5)
    assert "Stopped when asked to" in error
    assert 0 < folder.steps_done(trials[1].name) < 24 * lab.rollout
    assert [folder.trials[trial.name]["status"] for trial in trials] == ["finished", "interrupted"]

    folder = SweepFolder(folder.path)
    said, error = play(folder, trials, LocalEngine(folder, 2))
    assert error == ""
    assert any("started again at step" in line for line in said)
    runs = [RunDir(folder.run(trial.name)) for trial in trials]
    assert all(run.finished for run in runs)
    sessions = [json.loads((run.path / "versions.json").read_text())["sessions"] for run in runs]
    assert [len(s) for s in sessions] == [1, 2]
    assert sessions[1][0]["command"].startswith("carbonpilot train ")
    (group,) = siblings({run.path.name: read_training(run.path) for run in runs})
    assert group.seeds == (0, 1)
