"""`carbonpilot reproduce carbonedge`: every figure of the CarbonEdge paper beside ours."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..envs.console import table_console
from ..envs.files import atomic_write_bytes, check_output_file, write_json
from ..envs.scenario import scenario_sha256
from . import carbonedge_notes as notes
from . import carbonedge_paper as paper
from .carbonedge_cell import OTHER
from .carbonedge_cells import all_cells
from .carbonedge_plot import PICTURE, draw, require_matplotlib
from .carbonedge_reading_cells import ReadingScores
from .carbonedge_runs import CALIBRATED, READINGS, TRUE_KWH, decision_ms, model_scenario, play_all
from .carbonedge_sweep import Sweep, idle_scores, score_range, sweep
from .paper_cells import SCHEMA, SEED, Cell
from .paper_table import TABLE_WIDTH, show

BATCH = 256  # tasks that are decided together for the second scheduling time


def reproduce(json_file: Path | None = None, plots_dir: Path | None = None, seed: int = SEED) -> int:
    """Run the paper's experiments, print its figures beside ours, write them as JSON and draw the sweep.

    Args:
        json_file: where to write the cells, or None.
        plots_dir: folder for ``carbonedge-sweep.png``, or None.
        seed: seed of the evaluation tapes.

    Returns:
        Exit code 0: a cell that is not reproducible is a result, not a failure.

    Raises:
        InputError: an output cannot be written, or drawing needs matplotlib; nothing was run.
    """
    picture = None if plots_dir is None else Path(plots_dir) / PICTURE
    for file in (json_file, picture):
        if file is not None:
            check_output_file(file)
    if picture is not None:
        require_matplotlib()
    console = table_console(TABLE_WIDTH)
    site = model_scenario(paper.MOBILENET_V2)
    sweeps = [sweep(site, reading, seed) for reading in READINGS]
    scores = {reading.name: idle_scores(site, reading) for reading in READINGS}
    cells = all_cells(play_all(seed), sweeps, scores, (decision_ms(0), decision_ms(BATCH)))
    if json_file is not None:
        write_json(json_file, as_json(cells, seed))
    if picture is not None:
        atomic_write_bytes(picture, draw(sweeps))
    for line in summary(cells, sweeps, scores):
        console.print(line, highlight=False, markup=False)
    show(cells, "CarbonEdge: paper and ours", console)
    for what, file in (("Cells", json_file), ("Picture", picture)):
        if file is not None:
            console.print(f"{what} written to {file}", soft_wrap=True)
    return 0


def as_json(cells: list[Cell], seed: int) -> dict[str, Any]:
    """The reproduction under the keys of the JSON contract (DESIGN.md)."""
    sites = [model_scenario(model) for model in paper.TABLE_IV]
    return {
        "schema": SCHEMA,
        "carbonpilot_version": version("carbonpilot"),
        "scenario": "carbonedge",
        "scenario_sha256": {site.name: scenario_sha256(site) for site in sites},
        "seed": seed,
        "cells": [c.as_json() for c in cells],
    }


def summary(cells: list[Cell], sweeps: list[Sweep], scores: ReadingScores) -> list[str]:
    """Counts by kind, the unit slip, the grid ratio and the switch, in numbers."""
    printed = [c for c in cells if not c.table.endswith(OTHER)]
    fitted, predicted, off = (
        sum(c.kind == kind for c in printed) for kind in ("fitted", "predicted", "not_reproducible")
    )
    wh, kwh = (score_range(scores[r.name], "carbon") for r in (CALIBRATED, TRUE_KWH))
    ratios = [
        f"{model} {notes.grid_ratio_pct(model):.1f} % (printed {green.reduction_pct:g})"
        for model, (_, green) in paper.TABLE_IV.items()
    ]
    switched = [f"{s.reading} {s.switch:g}" for s in sweeps]
    return [
        "CarbonEdge, paper beside simulator. Calibrated on the monolithic rows.",
        f"Of {len(printed)} cells {fitted} are fitted or taken as printed, {predicted} predicted within 10 %, "
        f"{off} not reproducible (reasons below). {len(cells) - len(printed)} more show other readings.",
        f"The unit slip: P [W] x T [ms] / 3 600 000 is Wh. Over the nodes S_C spans {wh:.3f} so, and {kwh:.4f} in "
        f"true kWh; printed {paper.CARBON_SCORE_RANGE:g}.",
        f"The reduction is almost only the ratio of the grids x that of the latencies: {'; '.join(ratios)}.",
        f"The switch, printed w_C >= {paper.SWITCH_WEIGHT:.2f}, by reading: {'; '.join(switched)}. It is at 0.50 only "
        "where S_C and S_P are given their printed ranges.",
    ]
