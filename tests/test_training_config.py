"""Settings of the algorithms: what is shipped is complete, what is wrong is named by its path."""

import pytest

from carbonpilot.agents.training_config import CONFIGS, changes_from, load_training_config
from carbonpilot.agents.training_settings import SETTINGS
from carbonpilot.envs.errors import InputError


@pytest.fixture
def broken(tmp_path):
    """Write a changed copy of ppo.yaml."""

    def write(old, new):
        text = (CONFIGS / "ppo.yaml").read_text()
        assert old in text
        file = tmp_path / "ppo.yaml"
        file.write_text(text.replace(old, new, 1))
        return file

    return write


@pytest.mark.parametrize("algo", sorted(SETTINGS))
def test_shipped_settings_are_complete(algo):
    settings, section = load_training_config(algo, "no-such-scenario", "no-such-family")
    assert section == "default"
    assert settings.num_envs == 64
    assert settings.hidden == [64, 64]


def test_ppo_uses_the_measured_batches():
    settings, _ = load_training_config("ppo", "x", "x")
    assert (settings.n_steps, settings.batch_size, settings.n_epochs) == (128, 512, 4)
    assert (settings.gamma, settings.gae_lambda) == (0.9, 0.7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  gamma: ", "  gama: ", "default.gama: unknown key. Did you mean 'gamma'"),
        ("  gamma: 0.9", "  gamma: 1.5", "default.gamma: must be < 1, got 1.5"),
        ("  n_epochs: 4", "  n_epochs: four", "default.n_epochs: must be a whole number"),
        ("  batch_size: 512", "  batch_size: 1000", "must divide num_envs x n_steps (8192)"),
        ("algorithm: ppo", "algorithm: dqn", "algorithm: must be 'ppo'"),
        ("\nscenarios:", "\nextra: 1\nscenarios:", "extra: unknown key"),
    ],
)
def test_a_mistake_is_named_by_its_path(broken, old, new, message):
    with pytest.raises(InputError) as caught:
        load_training_config("ppo", "metro", "metro", broken(old, new))
    assert message in str(caught.value)
    assert "ppo.yaml" in str(caught.value)


@pytest.fixture
def layered(tmp_path):
    """ppo.yaml with sections for a scenario and a family."""
    head = (CONFIGS / "ppo.yaml").read_text().split("\nscenarios:")[0]

    def write(sections):
        file = tmp_path / "ppo.yaml"
        file.write_text(f"{head}\nscenarios:\n{sections}\n")
        return file

    return write


def test_scenario_goes_before_family_before_default(layered):
    file = layered("  site: {gamma: 0.5}\n  sites: {gamma: 0.25}")
    for scenario, family, gamma, section in (
        ("site", "sites", 0.5, "site"),
        ("other", "sites", 0.25, "sites"),
        ("other", "other", 0.9, "default"),
    ):
        settings, found = load_training_config("ppo", scenario, family, file)
        assert (settings.gamma, found) == (gamma, section)
        assert settings.n_steps == 128


def test_a_section_that_is_not_used_is_checked_too(layered):
    with pytest.raises(InputError, match=r"scenarios\.site\.learning_rat: unknown key.*'learning_rate'"):
        load_training_config("ppo", "other", "other", layered("  site: {learning_rat: 0.1}"))


def test_options_are_checked_and_laid_over_key_by_key():
    with pytest.raises(InputError, match="training options: num_envs: must be >= 1"):
        load_training_config("ppo", "x", "x", changes={"num_envs": 0})
    with pytest.raises(InputError, match="training options: batch_sise: unknown key"):
        load_training_config("ppo", "x", "x", changes={"batch_sise": 1})
    shipped, _ = load_training_config("ppo", "x", "x")
    changed, _ = load_training_config("ppo", "x", "x", changes={"constraint": {"start": 2.5}})
    assert changed.constraint.start == 2.5
    assert changed.constraint.model_copy(update={"start": shipped.constraint.start}) == shipped.constraint
    fixed, _ = load_training_config("ppo", "x", "x", changes={"constraint": None})
    assert fixed.constraint is None


def test_unknown_algorithm_offers_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'ppo'"):
        load_training_config("ppp", "x", "x")


def test_words_of_the_command_line_become_settings():
    words = ["gamma=0.9", "hidden=[32, 16]", "constraint.start=2", "constraint.ki=0.5", "activation=relu"]
    changes = changes_from(words)
    assert changes["constraint"] == {"start": 2, "ki": 0.5}
    assert changes_from(["constraint=null"]) == {"constraint": None}
    settings, _ = load_training_config("ppo", "x", "x", changes=changes)
    assert (settings.gamma, settings.hidden, settings.activation) == (0.9, [32, 16], "relu")
    assert settings.constraint.start == 2


@pytest.mark.parametrize("word", ["gamma", "=0.9", "constraint.=1", "gamma=[1"])
def test_a_word_that_is_no_setting_is_refused(word):
    with pytest.raises(InputError, match="--set"):
        changes_from([word])
