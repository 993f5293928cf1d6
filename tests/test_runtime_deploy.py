"""The systemd unit and the container file: they call what exists, with options that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from carbonpilot import cli

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "docs" / "deploy" / "carbonpilot.service"
PAGES = (UNIT, ROOT / "docs" / "deploy" / "README.md", ROOT / "docs" / "run.md")


def options() -> dict[str, object]:
    command = typer.main.get_command(cli.app).commands["run"]
    return {name: option for option in command.params for name in option.opts}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_option_that_is_written_down_exists(page):
    known = {*options(), "--help"}
    text = page.read_text().replace("\\\n", " ")
    calls = re.findall(r"carbonpilot (?:run +|(?=--site))([^\n`]*)", text)
    assert calls
    for call in calls:
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", call)) <= known, call


def test_what_the_page_says_of_defaults_holds():
    found = {name: option.default for name, option in options().items()}
    assert (found["--mode"].value, found["--overload"].value, found["--fallback"].value) == (
        "shadow",
        "skip",
        "risk",
    )
    assert found["--listen"] == "127.0.0.1:9464"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_understands_the_unit(tmp_path):
    """With a program that is there in place of the installed one; unknown keys and values are warnings there."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/carbonpilot/bin/carbonpilot", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert said == []


def test_the_container_leaves_the_boards_onnxruntime_alone():
    text = (UNIT.parent / "Containerfile").read_text()
    instructions = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "[device]" not in instructions
    assert "onnxruntime>=" not in instructions
    wanted = (ROOT / "pyproject.toml").read_text()
    for package in re.findall(r"'([a-z-]+(?:\[grpc\])?>=[\d.]+)'", instructions):
        assert f'"{package}"' in wanted, package
