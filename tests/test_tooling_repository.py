"""What a stranger types works as written: README, docs, Makefile, constraints, packaging."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer

from carbonpilot import __version__, cli
from carbonpilot.envs.scenario import SCENARIOS, load_scenario
from carbonpilot.envs.schema import Scenario

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = (".py", ".md", ".toml", ".txt", ".yaml", ".json", ".cff", "")
PROJECT = (ROOT / "pyproject.toml").read_text()


def commands() -> dict[str, set[str]]:
    """Every command with its options, 'train' -> {'--out', ...}."""

    def walk(group, prefix=""):
        for name, command in group.commands.items():
            known = {option for parameter in command.params for option in parameter.opts}
            found[prefix + name] = known | {"--help", "-h"}
            if hasattr(command, "commands"):
                walk(command, f"{prefix}{name} ")

    found: dict[str, set[str]] = {}
    walk(typer.main.get_command(cli.app))
    return found


def typed(text: str) -> list[str]:
    """The commands of the program in a text, after joining continued lines."""
    joined = text.replace("\\\n", " ").replace("$(CARBONPILOT)", "carbonpilot")
    return re.findall(r"^[\s@]*carbonpilot (.+)$", joined, flags=re.M)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile"], ids=lambda p: p.name)
def test_commands_and_options_on_the_page_exist(page):
    known = commands()
    for line in typed(page.read_text()):
        words = line.partition("#")[0].split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, f"{page.name}: no such command: {line}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known[name], f"{page.name}: {options - known[name]} in: {line}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile"], ids=lambda p: p.name)
def test_settings_that_a_command_names_are_shipped(page):
    for line in typed(page.read_text()):
        for name in re.findall(r"(?<!\S)configs/\S+", line):
            assert (ROOT / name).is_file(), f"{page.name}: {name} does not exist"


def test_the_check_of_pages_sees_commands():
    assert len(typed((ROOT / "README.md").read_text())) >= 8
    assert len(typed((ROOT / "Makefile").read_text())) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_on_the_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target} does not exist"


def test_no_file_names_a_machine_or_a_registry():
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if names.returncode:
        pytest.skip("not a git checkout")
    # The folder that this checkout lies in, and pip options that name a source of packages.
    forbidden = re.compile(re.escape(f"{ROOT.parent}/") + r"\w|--[a-z-]*index-" + r"url|--find-" + "links")
    for name in names.stdout.split("\n"):
        path = ROOT / name
        if path.suffix in TEXT and path.is_file() and path != Path(__file__):
            assert not forbidden.search(path.read_text()), name


def test_the_docs_name_every_part_of_a_scenario():
    page = (ROOT / "docs" / "scenarios.md").read_text()
    for name, field in Scenario.model_fields.items():
        assert f"`{field.alias or name}`" in page


def test_the_variant_in_the_docs_loads(tmp_path):
    if not (SCENARIOS / "metro.yaml").exists():
        pytest.skip("metro is not there yet")
    page = (ROOT / "docs" / "scenarios.md").read_text()
    (example,) = re.findall(r"```yaml\n(.+?)```", page, flags=re.S)
    (tmp_path / "strict.yaml").write_text(example)
    variant, base = load_scenario(tmp_path / "strict.yaml"), load_scenario("metro")
    assert (variant.name, variant.slo.latency_ms) == ("metro-strict", 120)
    assert variant.device.throttling is None
    assert base.device.throttling is not None
    assert variant.placements == base.placements


def pinned() -> dict[str, list[tuple[str, str]]]:
    """Package -> its (version, marker) lines in the constraints."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r'([a-z0-9-]+)==([\w.]+)(?:; (python_version (?:<|>=) "3\.11"))?', line)
            assert match, f"not an exact version: {line}"
            found.setdefault(match[1], []).append((match[2], match[3] or ""))
    return found


def test_constraints_pin_every_dependency_once_per_python():
    names = re.findall(r'"([A-Za-z0-9-]+)(?:\[[a-z]+\])?[><=]=[\d.]+"', PROJECT)
    assert {"numpy", "torch", "pyright"} <= {name.lower() for name in names}
    versions = pinned()
    only_on_a_device = {"tritonclient"}
    for name in {name.lower() for name in names} - {"setuptools"} - only_on_a_device:
        assert name in versions, f"{name} is not in constraints.txt"
    for name, lines in versions.items():
        markers = sorted(marker for _, marker in lines)
        allowed = ([""], ['python_version < "3.11"'], ['python_version < "3.11"', 'python_version >= "3.11"'])
        assert markers in allowed, f"{name}: {markers}"


def test_version_is_the_same_everywhere():
    assert f'version = "{__version__}"' in PROJECT
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()


def test_every_package_is_listed_for_the_wheel():
    listed = set(re.findall(r'^ {4}"(carbonpilot[\w.]*)",$', PROJECT, flags=re.M))
    rooms = ("envs", "agents", "oracle", "real", "configs")
    inits = [init for room in rooms for init in (ROOT / room).rglob("__init__.py")]
    there = {".".join(("carbonpilot", *init.parent.relative_to(ROOT).parts)) for init in inits}
    assert listed == there | {"carbonpilot"}


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.18" && exit 0\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(["make", "test", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "CarbonPilot needs Python 3.10 or newer" in done.stdout
    assert "Python 3.8.18" in done.stdout
    assert "make test PYTHON=python3.12" in done.stdout
    assert not (tmp_path / ".venv").exists()
