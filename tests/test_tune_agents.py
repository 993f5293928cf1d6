"""Tuning a learning algorithm with real trainings: training tapes only, a search that survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from processes import assert_ends_with
from risk_builder import make_risk
from tune_space import SPACE

from carbonpilot import cli
from carbonpilot.agents.run_dir import RunDir, risk_hashes
from carbonpilot.agents.settings_file import settings_text
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.tune_agents import tune as tune_module
from carbonpilot.agents.tune_agents import worker as worker_module
from carbonpilot.agents.tune_agents.options import AgentTuneOptions
from carbonpilot.agents.tune_agents.tune import tune_agent
from carbonpilot.agents.tune_agents.worker import Job
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.simulator import Simulator


@pytest.fixture
def small(lab, tmp_path):
    """A short site, settings and space of a small PPO, as files."""
    site = lab.site(tmp_path)
    base, _ = load_training_config("ppo", "metro", "metro", changes={**lab.small_ppo, "constraint": None})
    (tmp_path / "base.yaml").write_text(settings_text("ppo", base))
    content = {**SPACE, "space": {k: v for k, v in SPACE["space"].items() if k != "constraint.ki"}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(content))
    return site, tmp_path / "base.yaml", tmp_path / "space.yaml"


def test_a_trial_sees_training_tapes_only(lab, small, tmp_path, monkeypatch):
    site, base, _ = small
    parts, original = [], Simulator.__init__

    def note(self, scenario, batch, part="training", *arguments, **named):
        parts.append(part)
        original(self, scenario, batch, part, *arguments, **named)

    monkeypatch.setattr(Simulator, "__init__", note)
    asked = []

    def answer(rung):
        asked.append(rung)
        return len(asked) < 3

    job = Job(
        7,
        str(site),
        None,
        "ppo",
        8 * lab.rollout,
        0,
        str(base),
        {"n_epochs": 1},
        tmp_path / "run",
        np.arange(6),
        4,
    )
    done = worker_module._train(job, answer)
    assert (done.scores, done.reason) == (None, "pruned")
    assert [rung.number for rung in asked] == [1, 2, 3]
    assert asked[0].scores.carbon_mg.shape == (1, 6)
    assert not RunDir(job.folder).finished
    done = worker_module._train(job, lambda rung: True)
    assert done.scores is not None
    assert RunDir(job.folder).config["settings"]["n_epochs"] == 1
    assert len(parts) > 5
    assert set(parts) == {"training"}


def test_a_training_that_cannot_be_is_told(small, tmp_path):
    site, base, _ = small
    job = Job(
        1, str(site), None, "ppo", 100, 0, str(base), {"batch_size": 100}, tmp_path / "run", np.arange(2)
    )
    done = worker_module._train(job, lambda rung: True)
    assert done.scores is None
    assert "batch_size (100) must divide" in done.reason


class Here:
    """A pool that trains in this process, one job at a time."""

    room = 1

    def __init__(self, jobs):
        self.queue = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    @property
    def busy(self):
        return len(self.queue)

    def give(self, job):
        self.queue.append(job)

    def take(self, answer):
        return [worker_module._train(self.queue.pop(0), answer)] if self.queue else []


def test_settings_of_a_policy_over_a_risk_head_are_searched_over_that_head(lab, small, tmp_path, monkeypatch):
    site, base, space = small
    head, other = (make_risk(tmp_path / f"risk-{n}", load_scenario(site), seed=n) for n in (0, 1))
    monkeypatch.setattr(tune_module, "Pool", Here)
    options = AgentTuneOptions(
        steps=lab.rollout, trials=2, tapes=2, fresh_tapes=2, rungs=1, finalists=1, final_seeds=1
    )
    files = {"space_file": space, "settings_file": base, "study": tmp_path / "study.journal"}
    tune_agent(str(site), "ppo", tmp_path / "tuned.yaml", options, risk=head, **files)
    runs = sorted((tmp_path / "study.journal.runs").glob("*/config.yaml"))
    assert len(runs) >= 2
    assert all(RunDir(run.parent).config["risk"] == risk_hashes(head) for run in runs)
    assert f"# over the risk head in {head}" in (tmp_path / "tuned.yaml").read_text()
    for risk in (other, None):
        with pytest.raises(InputError, match="was made with another risk"):
            tune_agent(str(site), "ppo", tmp_path / "tuned.yaml", options, risk=risk, **files)


def test_a_risk_head_of_another_site_is_refused_before_anything_is_trained(small, tmp_path):
    site, _, _ = small
    head = make_risk(tmp_path / "risk", load_scenario("khan-mixed"))
    with pytest.raises(InputError, match=r"made for scenario 'khan-mixed'"):
        tune_agent(str(site), "ppo", tmp_path / "new" / "tuned.yaml", AgentTuneOptions(steps=256), risk=head)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", ["--risk", "--space", "--settings"])
def test_options_of_agents_mean_nothing_for_rules(option, tmp_path, monkeypatch, capsys):
    words = ["tune", "metro", "--policy", "rtt-threshold", "--out", str(tmp_path / "tuned.yaml"), option, "x"]
    monkeypatch.setattr(sys, "argv", ["carbonpilot", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert f"{option} has no meaning for rules" in capsys.readouterr().err


KILLED = """
import sys
from pathlib import Path
from carbonpilot.agents.tune_agents.options import AgentTuneOptions
from carbonpilot.agents.tune_agents.tune import tune_agent
if __name__ == "__main__":
    site, base, space, study, out, steps = sys.argv[1:]
    options = AgentTuneOptions(steps=int(steps), trials=3, tapes=4, fresh_tapes=4, rungs=2, finalists=1, final_seeds=1)
    tune_agent(site, "ppo", Path(out), options, space_file=Path(space), settings_file=Path(base), study=Path(study))
"""


def test_a_killed_search_goes_on_and_writes_settings_that_train(lab, small, tmp_path):
    site, base, space = small
    study, out, steps = tmp_path / "study.journal", tmp_path / "tuned.yaml", 12 * lab.rollout
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    words = [str(word) for word in (site, base, space, study, out, steps)]
    child = subprocess.Popen([sys.executable, str(script), *words])
    runs = tmp_path / "study.journal.runs"
    try:
        deadline = time.monotonic() + 300
        while not list(runs.glob("trial-0001/checkpoints/step-*")) and time.monotonic() < deadline:
            assert child.poll() is None, "the search ended before it could be killed"
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not out.exists()
    first = (runs / "trial-0000" / "model.zip").stat().st_mtime_ns
    reached = RunDir(runs / "trial-0001").checkpoints()[-1].steps
    options = AgentTuneOptions(
        steps=steps, trials=3, tapes=4, fresh_tapes=4, rungs=2, finalists=1, final_seeds=1, jobs=2
    )
    told = []
    found = tune_agent(
        str(site),
        "ppo",
        out,
        options,
        space_file=space,
        settings_file=base,
        study=study,
        progress=lambda *words: told.append(words),
    )
    assert found.trials == 3
    assert (runs / "trial-0000" / "model.zip").stat().st_mtime_ns == first, (
        "finished trials are not trained again"
    )
    sessions = json.loads((runs / "trial-0001" / "versions.json").read_text())["sessions"]
    assert [s["steps_before"] for s in sessions] in (
        [0, reached],
        [0, RunDir(runs / "trial-0001").progress()["steps"]],
    )
    assert told[-1][1] == told[-1][2]
    settings, _ = load_training_config("ppo", "anything", "", out)
    assert settings == found.plan.settings
    assert settings.evaluations == lab.small_ppo["evaluations"], "as the base has it, not as the trials"
    assert out.read_text().startswith("# Written by `carbonpilot tune`")
    lab.train(site, tmp_path / "run", lab.rollout, settings_file=out)

    with pytest.raises(InputError, match="was made with another steps"):
        tune_agent(
            str(site),
            "ppo",
            out,
            AgentTuneOptions(steps=2 * steps),
            space_file=space,
            settings_file=base,
            study=study,
        )


def test_workers_do_not_outlive_the_search(small, tmp_path):
    """Else a trial that goes on would be trained twice at the same time; see also the sweep's child."""
    assert os.getpid() != 1
    code = (
        "import sys, time\nfrom carbonpilot.agents.tune_agents.pool import Pool\n"
        "if __name__ == '__main__':\n"
        "    pool = Pool(1)\n    pool._new()\n"
        "    print(next(iter(pool._processes.values())).pid, flush=True)\n    time.sleep(120)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert_ends_with(parent, 120)
