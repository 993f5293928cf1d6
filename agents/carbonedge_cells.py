"""The paper's cells beside ours: what was fitted, what is predicted, what cannot be had and why."""

from __future__ import annotations

from . import carbonedge_notes as notes
from . import carbonedge_paper as paper
from .carbonedge_cell import OTHER, V2, Runs, cell, reduction_pct
from .carbonedge_reading_cells import (
    ReadingScores,
    other_amp4ec,
    other_proportions,
    other_table_v,
    score_ranges,
    switches,
)
from .carbonedge_runs import CALIBRATED, MODES, Key
from .carbonedge_sweep import Sweep
from .paper_cells import Cell


def all_cells(
    runs: Runs, sweeps: list[Sweep], scores: ReadingScores, scheduling_ms: tuple[float, float]
) -> list[Cell]:
    """Every cell.

    Args:
        runs: what the simulator showed.
        sweeps: one of each reading.
        scores: reading -> node -> components of its score.
        scheduling_ms: time of a decision, alone and in a batch.
    """
    cells = [
        *table_ii(runs),
        *section_iv_c(runs),
        *table_iv(runs),
        *table_v(runs),
        *score_ranges(scores),
        *switches(sweeps),
        *scheduling(scheduling_ms),
        *other_amp4ec(runs),
        *other_table_v(runs),
        *other_proportions(),
    ]
    return sorted(cells, key=lambda c: c.table.endswith(OTHER))  # the paper's own cells first


def table_ii(runs: Runs) -> list[Cell]:
    """Table II: MobileNetV2 in every configuration."""
    latency_notes = {paper.AMP4EC: notes.AMP4EC_MS, paper.BALANCED: notes.BALANCED_MS}
    cells = []
    for name, row in paper.TABLE_II.items():
        key = Key(V2, CALIBRATED.name, name)
        ours, where = runs[key], ("Table II", name)
        mono, amp4ec = name == paper.MONOLITHIC, name == paper.AMP4EC
        carbon_note = notes.CALIBRATION if mono else notes.AMP4EC_CARBON if amp4ec else notes.CARBON
        assert row.per_s is not None  # Table II has throughputs
        cells += [
            cell(
                (*where, "latency", "ms"),
                row.latency_ms,
                ours.latency_ms,
                latency_notes.get(name, notes.INPUT),
                None if name in latency_notes else "fitted",
            ),
            cell((*where, "throughput", "req/s"), row.per_s, 1000 / ours.latency_ms, notes.THROUGHPUT),
            cell(
                (*where, "carbon", "g/inf"),
                row.carbon_g,
                ours.carbon_g,
                carbon_note,
                "fitted" if mono else None,
            ),
        ]
        if row.reduction_pct is not None:
            why = notes.AMP4EC_REDUCTION if amp4ec else notes.CARBON
            why = notes.reduction(V2) if name == paper.GREEN else why
            place = (*where, "reduction", "%")
            cells.append(cell(place, row.reduction_pct, reduction_pct(runs, key), why))
    return cells


def section_iv_c(runs: Runs) -> list[Cell]:
    """Section IV-C in words, and section V-A's explanation."""
    ours = {name: runs[Key(V2, CALIBRATED.name, name)] for name in (*MODES, paper.MONOLITHIC)}
    mono, green = ours[paper.MONOLITHIC], ours[paper.GREEN]
    cells = [
        cell(
            ("Section IV-C", name, "inferences per gram", "1/g"),
            printed,
            1 / ours[name].carbon_g,
            notes.EFFICIENCY,
            "fitted" if name == paper.MONOLITHIC else None,
        )
        for name, printed in paper.INFERENCES_PER_G.items()
    ]
    gain = mono.carbon_g / green.carbon_g
    slower_pct = 100 * (green.latency_ms / mono.latency_ms - 1)
    at_most = paper.LATENCY_OVERHEAD_PCT
    return [
        *cells,
        cell(
            ("Section IV-C", paper.GREEN, "gain in efficiency", "x"),
            paper.EFFICIENCY_GAIN,
            gain,
            notes.EFFICIENCY,
        ),
        Cell(
            *("Section IV-C", paper.GREEN, "latency overhead", "%"),
            paper=at_most,
            ours=slower_pct,
            relative_error=max(0.0, slower_pct / at_most - 1),
            kind="fitted",
            note=notes.OVERHEAD,
        ),
        cell(
            ("Section V-A", paper.GREEN, "carbon", "g/inf"),
            paper.SMALL_EMISSIONS_G,
            green.carbon_g,
            notes.SMALL_EMISSIONS,
        ),
    ]


def table_iv(runs: Runs) -> list[Cell]:
    """Table IV: three models, each calibrated on its monolithic row."""
    cells = []
    for model, printed in paper.TABLE_IV.items():
        for name, row in zip((paper.MONOLITHIC, paper.GREEN), printed, strict=True):
            key = Key(model, CALIBRATED.name, name)
            ours, where, mono = runs[key], ("Table IV", f"{model}, {name}"), name == paper.MONOLITHIC
            why = notes.CALIBRATION if mono else notes.reduction(model)
            place = (*where, "carbon", "g/inf")
            cells += [
                cell((*where, "latency", "ms"), row.latency_ms, ours.latency_ms, notes.INPUT, "fitted"),
                cell(place, row.carbon_g, ours.carbon_g, why, "fitted" if mono else None),
            ]
            if row.reduction_pct is not None:
                place = (*where, "reduction", "%")
                cells.append(cell(place, row.reduction_pct, reduction_pct(runs, key), why))
    return cells


def table_v(runs: Runs) -> list[Cell]:
    """Table V: where each mode sends its tasks."""
    return [
        cell(
            ("Table V", mode, f"Node-{node.title()}", "%"),
            printed,
            runs[Key(V2, CALIBRATED.name, mode)].share_pct[node],
            notes.NODE_CHOICE,
        )
        for mode, row in paper.TABLE_V.items()
        for node, printed in row.items()
    ]


def scheduling(scheduling_ms: tuple[float, float]) -> list[Cell]:
    """Section IV-F: what a decision costs."""
    rows = (("Section IV-F", "one task"), (f"Section IV-F{OTHER}", "256 tasks together"))
    return [
        cell((*row, "scheduling", "ms/task"), paper.SCHEDULING_MS, ours, notes.SCHEDULING, "not_reproducible")
        for row, ours in zip(rows, scheduling_ms, strict=True)
    ]
