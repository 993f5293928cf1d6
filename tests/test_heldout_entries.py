"""Every command that learns refuses a site that is held out: exit code 2, the site to use instead, nothing written."""

from __future__ import annotations

import sys

import pytest
import yaml

from carbonpilot import cli
from carbonpilot.agents.teach.tapes import TeachingTapes
from carbonpilot.agents.training_config import CONFIGS
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario

HELD_OUT = "metro-heldout"
TAUGHT = ["--settings", str(CONFIGS / "ppo-taught.yaml")]
ENTRIES = {
    "train": ["train", HELD_OUT, "--out", "new/out"],
    "train with a teacher": ["train", HELD_OUT, *TAUGHT, "--out", "new/out"],
    "risk train": ["risk", "train", HELD_OUT, "--out", "new/out"],
    "sweep": ["sweep", "run", "--scenario", HELD_OUT, "--algo", "ppo", "--out", "new/out"],
    "tune --policy": ["tune", HELD_OUT, "--policy", "rtt-threshold", "--out", "new/out.yaml"],
    "tune --algo": ["tune", HELD_OUT, "--algo", "ppo", "--study", "new/study", "--out", "new/out.yaml"],
}


def refused(words, monkeypatch, capsys):
    """What a command said that must have been refused."""
    monkeypatch.setattr(sys, "argv", ["carbonpilot", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_held_out_site_is_refused(entry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = refused(ENTRIES[entry], monkeypatch, capsys)
    assert f"'{HELD_OUT}' is held out for evaluation" in told
    assert "Use 'metro-wide'" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("entry", ["train", "risk train", "sweep"])
def test_so_is_one_that_extends_it(entry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = {"extends": HELD_OUT, "name": "mine", "description": "Mine.", "slo": {"latency_ms": 160}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    words = ["mine.yaml" if word == HELD_OUT else word for word in ENTRIES[entry]]
    told = refused(words, monkeypatch, capsys)
    assert "'mine' is held out for evaluation" in told
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_sweep_refuses_it_among_other_sites(tmp_path, monkeypatch, capsys):
    content = {
        "schema": "carbonpilot/sweep/1",
        "scenarios": ["metro-wide", HELD_OUT],
        "seeds": [0],
        "agents": {"ppo": {"algo": "ppo", "steps": 8192}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    words = ["sweep", "run", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out")]
    told = refused(words, monkeypatch, capsys)
    assert f"Agent 'ppo' of the sweep: Scenario '{HELD_OUT}' is held out" in told
    assert not (tmp_path / "out").exists()


def test_a_teacher_reads_no_tape_of_it():
    with pytest.raises(InputError, match=f"'{HELD_OUT}' is held out"):
        TeachingTapes(load_scenario(HELD_OUT), 0)
