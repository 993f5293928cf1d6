"""The command line: exit codes, messages without a traceback, and what each command hands to its room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from carbonpilot import __version__, cli
from carbonpilot.envs.console import part_of, progress
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.scenario import scenario_json_schema, shipped_scenarios


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the program in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["carbonpilot", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def run(monkeypatch, capsys):
    return lambda *arguments: call(monkeypatch, capsys, *arguments)


def all_commands() -> list[list[str]]:
    def walk(command, path):
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*path, name])

    return list(walk(typer.main.get_command(cli.app), []))


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_every_command_has_help_and_every_leaf_an_example(run, path):
    code, out, err = run(*path, "--help")
    assert (code, err) == (0, "")
    assert "Usage: carbonpilot" in out
    command = typer.main.get_command(cli.app)
    for name in path:
        command = command.commands[name]
    leaf = not hasattr(command, "commands")
    if leaf or path == ["scenarios"]:
        assert f"Example: carbonpilot {' '.join(path)}" in " ".join(command.help.split())


def test_version(run):
    assert run("--version") == (0, f"{__version__}\n", "")


def test_scenarios_as_table_and_as_json(run):
    code, out, _ = run("scenarios")
    assert code == 0
    assert all(name in out for name in shipped_scenarios())
    code, out, _ = run("scenarios", "--json")
    content = json.loads(out)
    assert content["schema"] == "carbonpilot/scenarios/1"
    assert [s["name"] for s in content["scenarios"]] == shipped_scenarios()
    assert all(len(s["scenario_sha256"]) == 64 and s["placements"] for s in content["scenarios"])


def test_schema_to_a_file_and_to_standard_output(run, tmp_path):
    assert run("scenarios", "--schema", str(tmp_path / "s.json"))[0] == 0
    assert json.loads((tmp_path / "s.json").read_text()) == scenario_json_schema()
    assert json.loads(run("scenarios", "--schema", "-")[1]) == scenario_json_schema()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "metro"], "Missing option '--out'"),
        (["train", "metro", "--out", "x", "--steps", "0"], "--steps"),
        (["train", "metro", "--out", "x", "--seed", "-1"], "--seed"),
        (["train", "metro", "--out", "x", "--algo", "a3c"], "--algo"),
        (["train", "metro", "--out", "x", "--traces", "no-such-folder"], "--traces"),
        (["benchmark", "metro", "--episodes", "0"], "--episodes"),
        (["benchmark", "metro", "--epsiodes", "3"], "--episodes"),
        (["benchmark"], "Missing argument"),
        (["reproduce", "nobody"], "No such command"),
    ],
)
def test_a_wrong_call_exits_with_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in out + err


@pytest.mark.parametrize("command", ["train", "benchmark"])
def test_an_unknown_scenario_exits_with_2_and_offers_the_nearest(run, command, tmp_path):
    name, extra = shipped_scenarios()[0], []
    if command == "train":
        pytest.importorskip("gymnasium")
        extra = ["--out", str(tmp_path / "run")]
    code, _, err = run(command, name[:-1], *extra)
    assert code == 2
    assert err.startswith(f"carbonpilot: error: Unknown scenario '{name[:-1]}'. Did you mean '{name}'?")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_broken_scenario_names_file_and_path(run, tmp_path, tiny):
    tiny["slo"]["latency_ms"] = -5
    (tmp_path / "site.yaml").write_text(json.dumps(tiny))
    code, _, err = run("benchmark", str(tmp_path / "site.yaml"))
    assert code == 2
    assert err == f"carbonpilot: error: {tmp_path}/site.yaml: slo.latency_ms: must be > 0, got -5\n"


@pytest.fixture
def failing_with(run, monkeypatch):
    """Let a command fail with a given error."""

    def build(error: BaseException):
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("carbonpilot.envs.catalogue.print_catalogue", fail)
        return run("scenarios")

    return build


@pytest.mark.parametrize(("error", "code"), [(CarbonPilotError("disk is full"), 1), (InputError("bad"), 2)])
def test_errors_for_the_user_are_told_without_traceback(failing_with, error, code):
    assert failing_with(error) == (code, "", f"carbonpilot: error: {error}\n")


def test_a_missing_extra_names_the_command_that_installs_it(failing_with):
    code, _, err = failing_with(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    assert code == 2
    assert "torch" in err
    assert "pip install 'carbonpilot[train]'" in err


def test_an_interrupt_exits_with_130(failing_with):
    assert failing_with(KeyboardInterrupt())[0] == 130


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("carbonpilot.envs.catalogue.print_catalogue", fail)
    monkeypatch.setattr(sys, "argv", ["carbonpilot", "scenarios"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
    monkeypatch.setattr("carbonpilot.envs.catalogue.print_catalogue", lambda: __import__("no_such_module"))
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m carbonpilot.cli scenarios --schema - | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("{")
    assert done.stderr == ""


def test_train_hands_over_what_was_typed(run, monkeypatch, tmp_path):
    train = pytest.importorskip("carbonpilot.agents.train")
    seen = {}
    monkeypatch.setattr(train, "train", lambda *a, **k: seen.update(a=a, k=k))
    out, folder = str(tmp_path / "run"), str(tmp_path)
    assert (
        run("train", "metro", "--algo", "dqn", "--steps", "7", "--out", out, "--traces", folder, "--resume")[
            0
        ]
        == 0
    )
    assert seen["a"] == ("metro", "dqn", 7, 0, Path(out))
    assert seen["k"]["traces"] == tmp_path
    assert seen["k"]["resume"] is True


def test_benchmark_takes_policies_after_one_option_or_several(run, monkeypatch):
    benchmark = pytest.importorskip("carbonpilot.agents.benchmark")
    seen = []

    def stop(site, policies, episodes, seed, traces_dir, progress, tuned):
        seen.append((site.name, policies, episodes, seed, traces_dir))
        raise InputError("seen enough")

    monkeypatch.setattr(benchmark, "benchmark", stop)
    name = shipped_scenarios()[0]
    assert run("benchmark", name, "--policy", "a", "b", "--episodes", "3")[0] == 2
    assert run("benchmark", name, "--policy", "a", "--policy", "b", "--episodes", "3")[0] == 2
    assert seen == [(name, ["a", "b"], 3, 0, None)] * 2


def test_benchmark_refuses_a_bad_output_before_the_work(run, monkeypatch, tmp_path):
    benchmark = pytest.importorskip("carbonpilot.agents.benchmark")
    monkeypatch.setattr(benchmark, "benchmark", lambda *_: pytest.fail("work was started"))
    code, _, err = run("benchmark", shipped_scenarios()[0], "--json", str(tmp_path))
    assert code == 2
    assert "this is a folder" in err


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys):
    with progress("benchmark") as report:
        for done in range(0, 1001):
            report("random", done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"benchmark: {share} %, random" for share in range(10, 101, 10)]


def test_progress_goes_on_over_several_sites(capsys):
    with progress("sweep report") as report:
        for number, site in enumerate(("metro", "split")):
            told = part_of(report, number, 2, site)
            assert told is not None
            for done in range(0, 101):
                told("random", done, 100)
    lines = capsys.readouterr().err.splitlines()
    sites = ["metro"] * 5 + ["split"] * 5
    assert lines == [f"sweep report: {10 * n} %, {site}: random" for n, site in enumerate(sites, 1)]
    assert part_of(None, 0, 2) is None
