"""`carbonpilot reproduce ng`: case studies, crossovers and the accuracy of the closed forms of Ng et al."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from ..envs.console import table_console
from ..envs.files import check_output_file
from ..envs.files import write_json as write
from ..envs.scenario import load_scenario, scenario_sha256
from .ng_accuracy import Row, mape, measure, settings, worst
from .ng_cells import all_cells
from .ng_plot import NAME, write_plot
from .ng_split import Bar
from .ng_split import play as play_split
from .ng_split_cells import split_records
from .ng_table import accuracy_records, show, timeline_records
from .ng_timelines import CASES, Timeline, form_errors, play
from .paper_cells import SCHEMA, SEED, Cell
from .paper_table import TABLE_WIDTH
from .plots import require_matplotlib


def reproduce(json_file: Path | None = None, plots: Path | None = None, seed: int = SEED) -> int:
    """Play the paper's case studies, work out its crossovers, and hold its forms against the simulator.

    Args:
        json_file: where to write cells, time lines and grid, or None.
        plots: folder for the picture of the time lines, or None.
        seed: seed of the evaluation tapes.

    Returns:
        Exit code 0: a cell that is not reproducible is a result, not a failure.

    Raises:
        InputError: a result could not be written; nothing was run.
    """
    if json_file is not None:
        check_output_file(json_file)
    if plots is not None:
        require_matplotlib()
        check_output_file(plots / NAME)
    console = table_console(TABLE_WIDTH)
    timelines = {name: play(name, seed) for name in CASES}
    accuracy, split = _measure(console, seed), play_split(seed)
    cells = all_cells(timelines, accuracy, split)
    content = as_json(cells, timelines, accuracy, split, seed)
    for line in _summary(cells, timelines, accuracy):
        console.print(line)
    show(cells, content, console)
    if json_file is not None:
        write(json_file, content)
        console.print(f"Cells written to {json_file}", soft_wrap=True)
    if plots is not None:
        console.print(f"Picture written to {write_plot(timelines, plots)}", soft_wrap=True)
    return 0


def as_json(
    cells: list[Cell],
    timelines: dict[str, Timeline],
    accuracy: Sequence[Row],
    split: Sequence[Bar],
    seed: int,
) -> dict[str, Any]:
    """The reproduction under the keys of the JSON contract (DESIGN.md), with time lines, grid and Fig. 5a beside."""
    return {
        "schema": SCHEMA,
        "carbonpilot_version": version("carbonpilot"),
        "scenario": "ng",
        "scenario_sha256": {name: scenario_sha256(load_scenario(name)) for name in CASES},
        "seed": seed,
        "cells": [c.as_json() for c in cells],
        "timelines": timeline_records(timelines),
        "accuracy": accuracy_records(accuracy),
        "split": split_records(split),
    }


def _measure(console: Console, seed: int) -> list[Row]:
    """Simulate the grid: a progress bar on a terminal, a plain line per group elsewhere."""
    groups = [s.group for s in settings()]
    if not console.is_terminal:
        told: set[str] = set()

        def tell(group: str) -> None:
            if group not in told:
                told.add(group)
                console.print(f"{len(told)}/{len(set(groups))} {group}")

        return measure(seed, progress=lambda s: tell(s.group))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=len(groups))
        return measure(seed, progress=lambda s: bar.update(task, advance=1, description=s.group))


def _summary(cells: list[Cell], timelines: dict[str, Timeline], accuracy: Sequence[Row]) -> list[str]:
    """Switches, accuracy and counts in words."""
    held = [r for r in accuracy if r.setting.holds]
    far = worst(r for r in accuracy if not r.setting.holds and "bound" not in r.form.name)
    error, furthest = max(r.standard_error for r in held), abs(worst(held).deviation)
    studies = np.abs(form_errors(timelines.values()))
    tails = [abs(r.p95_deviation) for r in held if r.p95_deviation is not None]
    counts = {k: sum(c.kind == k for c in cells) for k in ("fitted", "predicted", "not_reproducible")}
    return [
        "Ng et al., paper beside simulator.",
        *(_way(t) for t in timelines.values()),
        f"Closed forms, {len(held)} settings within the paper's assumptions: mean absolute error {mape(held):.2%} "
        f"(paper: 2.2 %), largest {furthest:.1%}; standard errors up to {error:.1%}; p95 estimate within "
        f"{max(tails):.1%}.",
        f"In the case studies, whose payloads have one size: mean {studies.mean():.1%}, largest {studies.max():.1%}. "
        f"Without Poisson arrivals, one server or steady tenants up to {far.deviation:+.0%} "
        f"({far.setting.group}, {far.setting.name}, load {far.setting.utilisation:g}).",
        f"Of {len(cells)} cells {counts['fitted']} are fitted, {counts['predicted']} predicted, "
        f"{counts['not_reproducible']} not reproducible (reasons below).",
    ]


def _way(timeline: Timeline) -> str:
    """The manager's way through a case study."""
    steps = [f"{s.expected} {s.share:.1%} from {s.reached_s:.1f} s" for s in timeline.stretches]
    return f"{timeline.scenario}: {', '.join(steps)}; {timeline.changes:.1f} changes."
