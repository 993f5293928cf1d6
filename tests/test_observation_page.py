"""docs/observation.md is what the command writes, and says how names follow from a scenario."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from carbonpilot import cli
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.observation_page import observation_page
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios

PAGE = Path(__file__).resolve().parent.parent / "docs" / "observation.md"


def test_the_page_is_up_to_date(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["carbonpilot", "scenarios", "--observation", "metro"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    message = "run: carbonpilot scenarios --observation metro > docs/observation.md"
    assert PAGE.read_text() == capsys.readouterr().out, message


def test_every_feature_has_a_row_with_its_numbers():
    rows = re.findall(r"^\| (\d+) \| `(.+?)` \| (.+) \|$", PAGE.read_text(), flags=re.M)
    features = build_table(load_scenario("metro")).features
    assert [(int(i), name) for i, name, _ in rows] == list(enumerate(f.name for f in features))
    for (_, _, rest), f in zip(rows, features, strict=True):
        unit, low, high, scale, clock, meaning = rest.split(" | ")
        assert (unit, clock, meaning) == (f.unit, f.clock, f.meaning)
        assert (float(low), float(high), float(scale)) == (f.low, f.high, f.scale)


@pytest.mark.parametrize("name", shipped_scenarios())
def test_the_patterns_give_the_names_of_the_table(name):
    """Each pattern, filled in for every part, gives all names of the table but those that are fixed."""
    scenario = load_scenario(name)
    table, page = build_table(scenario), observation_page(scenario)
    parts = {
        "LINK": list(scenario.links),
        "NODE": list(scenario.nodes),
        "PLACEMENT": [p.name for p in scenario.placements],
    }
    filled = set()
    for kind, names in parts.items():
        patterns = re.findall(rf"`({kind}_\w+)`", page.partition("| one for each")[2])
        assert bool(patterns) == bool(names)
        filled |= {pattern.replace(kind, part) for pattern in patterns for part in names}
    without_load = {n for n, node in scenario.nodes.items() if node.background is None}
    filled -= {f"{n}_{feature}" for n in without_load for feature in ("load", "load_age_s")}
    assert filled <= set(table.names)
    fixed = set(table.names) - filled
    assert {"payload_kb", "progress", "device_heat"} <= fixed
    assert not {n for n in fixed if n.startswith(tuple(f"{part}_" for p in parts.values() for part in p))}
