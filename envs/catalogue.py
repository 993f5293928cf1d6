"""What the shipped scenarios are, as a table and as JSON, and the schema of them all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .files import write_json
from .scenario import load_scenario, scenario_json_schema, scenario_sha256, shipped_scenarios

SCHEMA = "carbonpilot/scenarios/1"
PIPE_WIDTH = 160  # columns of the table where there is no terminal


def catalogue_json() -> dict[str, Any]:
    """Every shipped scenario with what a program needs to choose one."""
    from .. import __version__

    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenarios": [_entry(name) for name in shipped_scenarios()],
    }


def _entry(name: str) -> dict[str, Any]:
    scenario = load_scenario(name)
    return {
        "name": scenario.name,
        "family": scenario.family,
        "scenario_sha256": scenario_sha256(scenario),
        "description": " ".join(scenario.description.split()),
        "slo_ms": scenario.slo.latency_ms,
        "slo_quantile": scenario.slo.quantile,
        "requests": scenario.episode.requests,
        "placements": [placement.name for placement in scenario.placements],
        "needs_traces": scenario.split == "traces",
        "nothing_to_win": scenario.nothing_to_win,
    }


def print_catalogue() -> None:
    """Print name, placements and purpose of every shipped scenario."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("scenario", "placements", "SLO", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for entry in catalogue_json()["scenarios"]:
        slo = f"p{100 * entry['slo_quantile']:g} <= {entry['slo_ms']:g} ms"
        what = entry["description"] + (" Needs --traces DIR." if entry["needs_traces"] else "")
        table.add_row(entry["name"], str(len(entry["placements"])), slo, what)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table, highlight=False)


def write_schema(path: Path) -> None:
    """Write the JSON schema of a scenario to a file, or to standard output for '-'."""
    if str(path) == "-":
        print(json.dumps(scenario_json_schema(), indent=2))
    else:
        write_json(path, scenario_json_schema())
