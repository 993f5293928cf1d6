"""The search over settings, with trainings that are arithmetic: pruning, seeds, failures, the choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from carbonpilot.agents.tune_agents.finals import choose, finalist
from carbonpilot.agents.tune_agents.options import AgentTuneOptions
from carbonpilot.agents.tune_agents.search import AgentSearch, best, ended
from carbonpilot.agents.tune_agents.space import read_space
from carbonpilot.agents.tune_agents.worker import Done, Job, Rung
from carbonpilot.agents.tune_evaluate import Scores
from carbonpilot.agents.tune_objective import Objective
from carbonpilot.envs.errors import CarbonPilotError


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
        Path("/nowhere") / str(key),
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
