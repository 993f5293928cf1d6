"""The search is recorded, goes on where it stopped, and every sampler gets near an optimum."""

import numpy as np
import pytest

from carbonpilot.agents.tunable import Tunable
from carbonpilot.agents.tune_search import Search, UnitCube, open_study, run_search
from carbonpilot.envs.errors import InputError


def make_tunables():
    return (Tunable("x", 0, 1, 0.5), Tunable("y", 0.01, 100, 1, log=True))


class Bowl:
    """An objective without a simulator: the least at x = 0.3, y = 10."""

    def __init__(self):
        self.played = 0

    def play(self, settings):
        self.played += len(settings)
        return FakeScores([(s["x"] - 0.3) ** 2 + (np.log10(s["y"]) - 1) ** 2 for s in settings])


class FakeScores:
    def __init__(self, values):
        self.mean_carbon_mg = self.compliance = np.array(values)


@pytest.mark.parametrize("sampler", ["cem", "tpe", "random"])
def test_every_sampler_finds_the_neighbourhood_of_the_optimum_and_goes_on(sampler, tmp_path):
    bowl = Bowl()
    search = Search(make_tunables(), bowl.play, lambda scores: scores.mean_carbon_mg, together=8)
    for trials in (60, 120) if sampler != "cem" else (120, 120):
        study = open_study(tmp_path / "s.journal", "bowl", sampler, 3, {})
        found = run_search(study, search, sampler, trials, 3)
        assert len(found) == trials
    assert bowl.played == 120
    assert min(trial.value for trial in found) < 0.02
    assert len({tuple(trial.setting.items()) for trial in found}) > 100


def test_the_cube_maps_there_and_back():
    cube = UnitCube(make_tunables())
    assert cube.setting(np.array([0.0, 1.0])) == pytest.approx({"x": 0.0, "y": 100.0})
    assert cube.setting(np.array([0.5, 0.5])) == pytest.approx({"x": 0.5, "y": 1.0})
    np.testing.assert_allclose(cube.point(cube.setting(np.array([0.2, 0.7]))), [0.2, 0.7])


def test_cem_refuses_trials_of_another_budget(tmp_path):
    search = Search(make_tunables(), Bowl().play, lambda scores: scores.mean_carbon_mg, together=8)
    study = open_study(tmp_path / "s.journal", "bowl", "cem", 3, {})
    run_search(study, search, "cem", 60, 3)
    with pytest.raises(InputError, match="another budget"):
        run_search(study, search, "cem", 2000, 3)
