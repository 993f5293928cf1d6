"""The search space of a learning algorithm: strict, and what the shipped settings lie in."""

from __future__ import annotations

import optuna
import pytest

from carbonpilot.agents.training_config import laid_over, load_training_config
from carbonpilot.agents.training_settings import SETTINGS
from carbonpilot.agents.tune_agents.space import SPACES, check_space, read_space
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.validation import validated


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
