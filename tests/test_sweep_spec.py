"""The sweep file, the trials that follow from it, and the folder that refuses to become another sweep."""

from __future__ import annotations

import sys

import pytest
import yaml

from carbonpilot import cli
from carbonpilot.agents.settings_file import nested, settings_text
from carbonpilot.agents.sweep.folder import SweepFolder
from carbonpilot.agents.sweep.spec import read_spec, seed_list, spec_of_options
from carbonpilot.agents.sweep.trial import expand
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.envs.errors import InputError

CONTENT = {
    "schema": "carbonpilot/sweep/1",
    "scenarios": ["metro", "khan-mixed"],
    "seeds": [0, 1, 2],
    "agents": {"ppo": {"algo": "ppo", "steps": 8192}, "dqn": {"algo": "dqn", "steps": 1000}},
}


@pytest.fixture
def write(tmp_path):
    def to_file(**changes):
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
        return file

    return to_file


def trials(file):
    return expand(read_spec(file), file.parent)


def test_every_agent_on_every_scenario_with_every_seed(write):
    found = trials(write())
    assert len(found) == len({trial.name for trial in found}) == 2 * 2 * 3
    first = [(t.plan.scenario.name, t.agent, t.plan.seed) for t in found[:4]]
    assert {seed for _, _, seed in first} == {0}, "a sweep that is cut short has everything with some seeds"
    assert found[0].name == "metro-ppo-0"
    assert found[0].plan.steps == 8192
    assert found[1].plan.steps == 1024, "whole rollouts, as a training rounds them"


def test_a_grid_makes_an_agent_of_each_combination(write):
    grid = {"learning_rate": [0.001, 0.0005], "hidden": [[64, 64], [32]]}
    agent = {"algo": "ppo", "steps": 8192, "settings": {"gamma": 0.9}, "grid": grid}
    found = trials(write(agents={"ppo": agent}, seeds=[4], scenarios=["metro"]))
    assert [t.agent for t in found] == [
        "ppo-learning_rate-0.001-hidden-64x64",
        "ppo-learning_rate-0.001-hidden-32",
        "ppo-learning_rate-0.0005-hidden-64x64",
        "ppo-learning_rate-0.0005-hidden-32",
    ]
    assert [t.plan.settings.learning_rate for t in found] == [0.001, 0.001, 0.0005, 0.0005]
    assert {t.plan.settings.gamma for t in found} == {0.9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [0]}, r"sedes: unknown key. Did you mean 'seeds'"),
        ({"seeds": [0, 1, 0]}, "seeds: 0 stands there twice"),
        ({"seeds": []}, "seeds: must have at least 1"),
        ({"scenarios": ["metor"]}, "Agent 'ppo' of the sweep: .*Did you mean 'metro'"),
        ({"agents": {"P P": {"algo": "ppo", "steps": 1}}}, "agents"),
        ({"agents": {"a": {"algo": "pppo", "steps": 1}}}, r"Agent 'a' of the sweep: .*Did you mean 'ppo'"),
        (
            {"agents": {"a": {"algo": "ppo", "steps": 1, "settings": {"gama": 0.9}}}},
            r"Agent 'a'.*gama: unknown key. Did you mean 'gamma'",
        ),
        (
            {"agents": {"a": {"algo": "ppo", "steps": 1, "grid": {"gamma": [0.9, 1.5]}}}},
            r"Agent 'a-gamma-1.5' of the sweep: .*gamma: must be < 1, got 1.5",
        ),
        (
            {"agents": {"a": {"algo": "ppo", "steps": 1, "options": {"contry": "DEU"}}}},
            r"options.contry: .*Did you mean 'country'",
        ),
        (
            {"agents": {"a": {"algo": "ppo", "steps": 1, "options": {"seed": 3}}}},
            "or the sweep gives it itself",
        ),
        ({"traces": "no-such-folder"}, "Trace folder .*no-such-folder does not exist"),
    ],
)
def test_mistakes_are_named_before_anything_starts(write, changes, message):
    with pytest.raises(InputError, match=message):
        trials(write(**changes))


def test_names_that_meet_are_refused(write):
    agents = {
        "a": {"algo": "ppo", "steps": 1, "grid": {"gamma": [0.9]}},
        "a-gamma-0.9": {"algo": "ppo", "steps": 1},
    }
    with pytest.raises(InputError, match=r"Two trials of the sweep would be called 'metro-a-gamma-0\.9-0'"):
        trials(write(agents=agents))


def test_options_reach_the_command_line(write, tmp_path):
    agent = {"algo": "ppo", "steps": 1, "options": {"country": "DEU", "num-envs": 32}}
    (trial,) = trials(write(agents={"a": agent}, scenarios=["metro"], seeds=[7]))
    folder = SweepFolder(tmp_path / "out")
    folder.add([trial])
    words = folder.words(trial)
    assert words[:2] == ("train", "metro")
    assert words[-4:] == ("--country", "DEU", "--num-envs", "32")
    assert words[words.index("--seed") + 1] == "7"
    assert "--resume" not in words


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", [0]), ("0-4", [0, 1, 2, 3, 4]), ("0, 2,5-6", [0, 2, 5, 6])]
)
def test_seeds_on_the_command_line(text, seeds):
    assert seed_list(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "4-0", "1.5"])
def test_seeds_that_are_none(text):
    with pytest.raises(InputError, match="--seeds"):
        seed_list(text)


def test_options_instead_of_a_file():
    spec = spec_of_options(["metro"], ["ppo", "dqn"], 1000, "0-4")
    assert (spec.scenarios, list(spec.agents), spec.seeds) == (["metro"], ["ppo", "dqn"], [0, 1, 2, 3, 4])
    with pytest.raises(InputError, match="--algo"):
        spec_of_options(["metro"], [], 1000, "0")
    with pytest.raises(InputError, match="--scenario"):
        spec_of_options([], ["ppo"], 1000, "0")


def test_a_sweep_grows_but_does_not_change(write, tmp_path):
    out = tmp_path / "out"
    SweepFolder(out).add(trials(write(seeds=[0])))
    folder = SweepFolder(out)
    folder.add(trials(write(seeds=[0, 1])))
    assert len(folder.trials) == 8
    longer = {**CONTENT["agents"], "ppo": {"algo": "ppo", "steps": 20_000}}
    folder.add(trials(write(agents=longer)))
    with pytest.raises(InputError, match=r"trial 'metro-ppo-0' with another steps: 24576 before, now 8192"):
        SweepFolder(out).add(trials(write()))
    other = {**longer, "dqn": {"algo": "dqn", "steps": 1000, "settings": {"gamma": 0.5}}}
    with pytest.raises(InputError, match=r"holds other settings .* agent 'dqn'"):
        SweepFolder(out).add(trials(write(agents=other)))


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no sweep"):
        SweepFolder(tmp_path)
    with pytest.raises(InputError, match="holds no sweep"):
        SweepFolder.existing(tmp_path / "nowhere")


def test_two_sweeps_do_not_share_a_folder(tmp_path):
    first, second = SweepFolder(tmp_path / "out"), SweepFolder(tmp_path / "out")
    with first.locked(), pytest.raises(InputError, match=r"running in .* already"), second.locked():
        pass
    with second.locked():
        pass


def test_written_settings_are_read_back_as_they_were(tmp_path):
    settings, _ = load_training_config("ppo", "metro", "metro")
    file = tmp_path / "mine.yaml"
    file.write_text(settings_text("ppo", settings, "from a test\nsecond line"))
    assert file.read_text().startswith("# from a test\n# second line\n")
    again, section = load_training_config("ppo", "anything", "", file)
    assert (again, section) == (settings, "default")


def test_dotted_settings():
    assert nested({"a.b": 1, "a.c": {"d.e": 2}, "f": [1]}) == {"a": {"b": 1, "c": {"d": {"e": 2}}}, "f": [1]}
    with pytest.raises(InputError, match="'a' has a value of its own"):
        nested({"a": 1, "a.b": 2})
    with pytest.raises(InputError, match="given twice"):
        nested({"a.b": 1, "a": 2})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "run", "--out", "x"], "Nothing to sweep: give a sweep file, or --scenario"),
        (["sweep", "run", "--out", "x", "--scenario", "metro"], "give a sweep file, or --algo"),
        (
            ["sweep", "run", "s.yaml", "--out", "x", "--algo", "ppo", "--seeds", "0"],
            "--algo, --seeds: the sweep",
        ),
        (["sweep", "run", "sewep.yaml", "--out", "x"], "There is no file sewep.yaml"),
        (["sweep", "run", "--scenario", "metro", "--algo", "pop", "--out", "x"], "Did you mean 'ppo'"),
        (
            ["sweep", "run", "--scenario", "metro", "--algo", "ppo", "--seeds", "a", "--out", "x"],
            "--seeds: expected",
        ),
        (["sweep", "report", "x"], "x holds no sweep"),
        (["tune", "metro", "--out", "x.yaml"], "either --policy NAME (a rule, or 'all') or --algo"),
        (["tune", "metro", "--out", "x.yaml", "--algo", "ppo", "--policy", "bandit"], "either --policy"),
        (
            ["tune", "metro", "--out", "x.yaml", "--policy", "bandit", "--space", "y"],
            "--space has no meaning",
        ),
        (
            ["tune", "metro", "--out", "x.yaml", "--algo", "ppo", "--sampler", "cem"],
            "must be one of tpe, random",
        ),
        (
            ["tune", "metro", "--out", "x.yaml", "--algo", "recurrent-ppo"],
            "No search space is shipped",
        ),
    ],
)
def test_a_wrong_call_exits_with_2_and_starts_nothing(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["carbonpilot", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
