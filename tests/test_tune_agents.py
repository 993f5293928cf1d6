"""Tuning a learning algorithm: a strict space, pruning, training tapes only, a search that survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pytest
import yaml
from risk_builder import make_risk

from carbonpilot import cli
from carbonpilot.agents.run_dir import RunDir, risk_hashes
from carbonpilot.agents.settings_file import settings_text
from carbonpilot.agents.training_config import laid_over, load_training_config
from carbonpilot.agents.training_settings import SETTINGS
from carbonpilot.agents.tune_agents import tune as tune_module
from carbonpilot.agents.tune_agents import worker as worker_module
from carbonpilot.agents.tune_agents.finals import choose, finalist
from carbonpilot.agents.tune_agents.options import AgentTuneOptions
from carbonpilot.agents.tune_agents.search import AgentSearch, best, ended
from carbonpilot.agents.tune_agents.space import SPACES, check_space, read_space
from carbonpilot.agents.tune_agents.tune import tune_agent
from carbonpilot.agents.tune_agents.worker import Done, Job, Rung
from carbonpilot.agents.tune_evaluate import Scores
from carbonpilot.agents.tune_objective import Objective
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated

SPACE = {
    "schema": "carbonpilot/space/1",
    "algorithm": "ppo",
    "space": {
        "learning_rate": {"kind": "float", "low": 0.0005, "high": 0.02, "log": True},
        "n_epochs": {"kind": "int", "low": 1, "high": 2},
        "hidden": {"kind": "choice", "values": [[64, 64], [16]]},
        "constraint.ki": {"kind": "float", "low": 0.05, "high": 0.2},
    },
}


@pytest.fixture
def space_file(tmp_path):
    def write(**changes):
        content = {**SPACE, "space": {**SPACE["space"], **changes}}
        file = tmp_path / "space.yaml"
        file.write_text(
            yaml.safe_dump({**content, "space": {k: v for k, v in content["space"].items() if v}})
        )
        return file

    return write


@pytest.fixture(scope="module")
def shipped():
    return load_training_config("ppo", "metro", "metro")[0]


def test_points_of_the_space_become_settings(space_file, shipped):
    space = read_space("ppo", space_file())
    check_space(space, shipped)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(20):
        changes = space.changes(study.ask(space.distributions()).params)
        settings = validated(type(shipped), laid_over(shipped.model_dump(mode="json"), changes), "test")
        assert 0.0005 <= settings.learning_rate <= 0.02
        assert 0.05 <= settings.constraint.ki <= 0.2
        assert settings.constraint.kp == shipped.constraint.kp, "what is not searched stays"
        seen.add((settings.n_epochs, tuple(settings.hidden)))
    assert seen == {(1, (64, 64)), (2, (64, 64)), (1, (16,)), (2, (16,))}


def test_the_present_settings_are_a_point_where_they_lie_inside(space_file, shipped):
    space = read_space("ppo", space_file())
    stored = space.stored(shipped)
    assert stored["hidden"] == "[64, 64]"
    assert "n_epochs" not in stored, "4 lies outside of 1 to 2"
    assert stored["learning_rate"] == shipped.learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": {"kind": "float", "low": 1, "high": 0.1}}, r"learning_rate.*low \(1"),
        (
            {"learning_rate": {"kind": "float", "low": 0, "high": 0.1, "log": True}},
            "above 0 on a logarithmic",
        ),
        ({"learning_rate": {"kind": "flaot", "low": 0, "high": 1}}, "unknown 'flaot'. Did you mean 'float'"),
        ({"hidden": {"kind": "choice", "values": [[64]]}}, "hidden.*at least 2"),
        (
            {"lerning_rate": {"kind": "int", "low": 1, "high": 2}},
            "no such setting. Did you mean 'learning_rate'",
        ),
        ({"gamma": {"kind": "float", "low": 0.5, "high": 1.0}}, r"space.gamma at 1.0: gamma: must be < 1"),
        ({"constraint.kq": {"kind": "int", "low": 1, "high": 2}}, "Did you mean 'constraint.kp'"),
    ],
)
def test_mistakes_in_a_space_are_named(space_file, shipped, changes, message):
    with pytest.raises(InputError, match=message):
        check_space(read_space("ppo", space_file(**changes)), shipped)


def test_a_space_of_another_algorithm_is_refused(space_file):
    with pytest.raises(InputError, match="is a search space for 'ppo', not for 'dqn'"):
        read_space("dqn", space_file())
    with pytest.raises(InputError, match="No search space is shipped for 'other'"):
        read_space("other", None)


@pytest.mark.parametrize("file", sorted(SPACES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_spaces_hold_the_shipped_settings(file):
    assert file.stem in SETTINGS
    space, (settings, _) = read_space(file.stem, None), load_training_config(file.stem, "metro", "metro")
    check_space(space, settings)
    assert space.stored(settings).keys() == space.space.keys(), "the first trial is the untuned one"


# --- the search, with trainings that are arithmetic


def scores(value, tapes=4):
    """Scores whose objective is ``value``: that carbon, no miss."""
    return Scores(np.full((1, tapes), value), np.zeros((1, tapes)), np.full((1, tapes), 50.0))


class Arithmetic:
    """A pool whose trainings cost nothing: the objective is a function of the settings, halved at each rung."""

    def __init__(self, value, jobs=1, rungs=3, broken=()):
        self.value, self.jobs, self.rungs, self.broken = value, jobs, rungs, set(broken)
        self.given, self.asked, self.queue = [], [], []

    @property
    def room(self):
        return self.jobs - len(self.queue)

    @property
    def busy(self):
        return len(self.queue)

    def give(self, job):
        self.given.append(job.key)
        self.queue.append(job)

    def take(self, answer):
        if not self.queue:
            return []
        job = self.queue.pop(0)
        if job.key in self.broken:
            return [Done(job.key, None, "it exploded")]
        final = self.value(job.changes)
        for rung in range(1, self.rungs):
            self.asked.append((job.key, rung))
            if not answer(Rung(job.key, rung, scores(final * (1 + self.rungs - rung)))):
                return [Done(job.key, None, "pruned")]
        return [Done(job.key, scores(final))]

    def stop(self):
        self.queue.clear()


def make_job(key, changes):
    return Job(
        key,
        "metro",
        None,
        "ppo",
        100,
        0,
        None,
        changes,
        worker_module.Path("/nowhere") / str(key),
        np.arange(2),
    )


def value_of(changes):
    return 1.0 + abs(np.log10(changes["learning_rate"]) + 2.5)


def searched(space, pool, trials, study=None, **options):
    study = study or optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    chosen = AgentTuneOptions(steps=100, trials=trials, startup=3, **options)
    told = []
    search = AgentSearch(study, space, chosen, make_job, pool, told.append)
    search.run()
    return study, told


def test_the_search_finds_what_is_best_and_gives_up_what_is_worse(space_file):
    space, pool = read_space("ppo", space_file()), Arithmetic(value_of)
    study, told = searched(space, pool, 30)
    over = ended(study)
    assert len(over) == sum(told) == 30
    pruned = [t for t in over if t.state.name == "PRUNED"]
    assert 3 < len(pruned) < 27
    values = [value_of(space.changes(t.params)) for t in over]
    finished = [v for v, t in zip(values, over, strict=True) if t.state.name == "COMPLETE"]
    assert np.median(finished) < np.median([v for v, t in zip(values, over, strict=True) if t in pruned])
    assert all(t.number >= 3 for t in pruned), "the first ones are never given up"
    first, second, third = best(study, space, 3)
    assert first.value == min(finished)
    assert first.value <= second.value <= third.value
    assert np.log10(first.changes["learning_rate"]) == pytest.approx(-2.5, abs=0.3)
    assert study.best_trial.user_attrs["compliance"] == 1.0


def test_the_same_seed_finds_the_same(space_file):
    space = read_space("ppo", space_file())
    paths = [[t.params for t in searched(space, Arithmetic(value_of), 8)[0].trials] for _ in range(2)]
    assert paths[0] == paths[1]


def test_trials_on_their_way_when_a_search_was_killed_go_on(space_file):
    space = read_space("ppo", space_file())
    study, _ = searched(space, Arithmetic(value_of), 4)
    begun = study.ask(space.distributions())
    begun.report(2.0, 1)
    pool = Arithmetic(value_of)
    searched(space, pool, 6, study)
    assert pool.given == [begun.number, begun.number + 1], "finished ones are not trained again"
    assert study.trials[begun.number].state.name in ("COMPLETE", "PRUNED")
    assert study.trials[begun.number].intermediate_values[1] == 2.0, "the first value of a rung stays"


def test_a_training_that_fails_ends_the_search_and_is_tried_again(space_file):
    space = read_space("ppo", space_file())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(CarbonPilotError, match=r"Trial 1 .*learning_rate.*it exploded(.|\n)*Its log:"):
        searched(space, Arithmetic(value_of, broken=[1]), 3, study)
    pool = Arithmetic(value_of)
    searched(space, pool, 3, study)
    assert pool.given == [1, 2]


def test_several_trainings_at_a_time(space_file):
    space, pool = read_space("ppo", space_file()), Arithmetic(value_of, jobs=3)
    study, _ = searched(space, pool, 10)
    assert len(ended(study)) == 10
    assert sorted(pool.given) == list(range(10))


def test_the_choice_is_the_least_carbon_that_reaches_the_aim():
    good, missing = scores(0.5), Scores(np.full((1, 4), 0.3), np.full((1, 4), 90.0), np.full((1, 4), 50.0))
    finalists = [
        finalist("misses", {}, [missing, missing]),
        finalist("fine", {}, [good, scores(0.4)]),
        finalist("untuned", {}, [good, good]),
    ]
    assert choose(finalists, Objective()) == 1
    assert finalists[1].scores.carbon_mg.shape == (1, 8)
    assert finalists[1].scores.mean_carbon_mg[0] == pytest.approx(0.45)


# --- with real trainings


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
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 120
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
