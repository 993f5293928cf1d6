"""`carbonpilot reproduce khan`: every figure of Khan et al. beside ours."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ..envs.console import table_console
from ..envs.files import check_output_file, write_json
from ..envs.scenario import load_scenario, scenario_sha256
from . import khan_paper as paper
from .khan_cells import TCP_TABLE, all_cells
from .khan_runs import Run, plan, play_all
from .paper_cells import SCHEMA, SEED, TOLERANCE, Cell
from .paper_table import TABLE_WIDTH, show

SCENARIOS = (*paper.TABLE_1, "khan-mixed")


def reproduce(json_file: Path | None = None, seed: int = SEED) -> int:
    """Run the paper's experiments, print its figures beside ours and write them as JSON.

    Args:
        json_file: where to write the cells, or None.
        seed: seed of the evaluation tapes.

    Returns:
        Exit code 0: a cell that is not reproducible is a result, not a failure.

    Raises:
        InputError: ``json_file`` cannot be written; nothing was run.
    """
    if json_file is not None:
        check_output_file(json_file)
    console = table_console(TABLE_WIDTH)
    cells = all_cells(_play(console, seed))
    for line in _summary(cells):
        console.print(line)
    show(cells, "Khan et al.: paper and ours", console)
    if json_file is not None:
        write_json(json_file, as_json(cells, seed))
        console.print(f"Cells written to {json_file}", soft_wrap=True)
    return 0


def as_json(cells: list[Cell], seed: int) -> dict[str, Any]:
    """The reproduction under the keys of the JSON contract (DESIGN.md)."""
    return {
        "schema": SCHEMA,
        "carbonpilot_version": version("carbonpilot"),
        "scenario": "khan",
        "scenario_sha256": {name: scenario_sha256(load_scenario(name)) for name in SCENARIOS},
        "seed": seed,
        "cells": [c.as_json() for c in cells],
    }


def _play(console: Console, seed: int) -> dict:
    """Make the runs: a progress bar on a terminal, plain lines elsewhere."""
    total = len(plan())
    if not console.is_terminal:
        done = iter(range(1, total + 1))
        return play_all(seed, progress=lambda run: console.print(f"{next(done)}/{total} {_name(run)}"))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        return play_all(seed, progress=lambda run: bar.update(task, advance=1, description=_name(run)))


def _name(run: Run) -> str:
    return " ".join(part for part in run.key if part)


def _summary(cells: list[Cell]) -> list[str]:
    """Counts by kind, and the worst fitted cell."""
    printed = [c for c in cells if c.table != TCP_TABLE]
    counts = {
        kind: sum(c.kind == kind for c in printed) for kind in ("fitted", "predicted", "not_reproducible")
    }
    fitted, predicted, off = counts.values()
    worst = max(abs(c.relative_error or 0.0) for c in printed if c.kind == "fitted")
    return [
        "Khan et al., paper beside simulator.",
        f"Of {len(printed)} cells {fitted} are fitted (worst error {worst:.1%}), {predicted} predicted "
        f"within {TOLERANCE:.0%}, {off} not reproducible (reasons below). "
        f"{len(cells) - len(printed)} more show what the tcp model makes of Table 1.",
    ]
