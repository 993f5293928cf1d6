"""The command that a result keeps can be repeated in another checkout."""

from __future__ import annotations

import sys

from carbonpilot.agents.provenance import command_line


def test_a_command_names_paths_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = "/somewhere/else/site.yaml"
    words = ["/usr/bin/carbonpilot", "train", elsewhere, "--out", f"{tmp_path}/runs/my run", "--seed", "0"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line() == "carbonpilot train /somewhere/else/site.yaml --out 'runs/my run' --seed 0"


def test_a_program_that_was_called_as_a_module_has_its_own_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/carbonpilot/cli.py", "tune", "metro"])
    assert command_line() == "carbonpilot tune metro"
