"""What each reading of the paper makes of the ranges, the switch and the tables: cells of carbonedge_cells.py."""

from __future__ import annotations

from . import carbonedge_notes as notes
from . import carbonedge_paper as paper
from .carbonedge_cell import OTHER, V2, Runs, cell, reduction_pct
from .carbonedge_runs import (
    CALIBRATED,
    PRINTED_RANGES,
    READINGS,
    TABLE_II_TIMES,
    TRUE_KWH,
    WITHOUT_CARBON,
    Key,
)
from .carbonedge_score import TABLE_I, Scores
from .carbonedge_sweep import Sweep, exact_switch, score_range
from .paper_cells import Cell

ReadingScores = dict[str, dict[str, Scores]]


def score_ranges(scores: ReadingScores) -> list[Cell]:
    """Section IV-F: the ranges of S_C and S_P over the nodes."""
    rows = (
        (CALIBRATED, "S_C", "carbon", paper.CARBON_SCORE_RANGE, notes.CARBON_RANGE, None),
        (PRINTED_RANGES, "S_C", "carbon", paper.CARBON_SCORE_RANGE, notes.CARBON_RANGE_FITTED, "fitted"),
        (TRUE_KWH, "S_C", "carbon", paper.CARBON_SCORE_RANGE, notes.CARBON_RANGE_KWH, None),
        (
            CALIBRATED,
            "S_P",
            "performance",
            paper.PERFORMANCE_SCORE_RANGE,
            notes.PERFORMANCE_RANGE,
            "fitted",
        ),
        (
            TABLE_II_TIMES,
            "S_P",
            "performance",
            paper.PERFORMANCE_SCORE_RANGE,
            notes.PERFORMANCE_RANGE_TABLE_II,
            None,
        ),
    )
    return [
        cell(
            (
                "Section IV-F" + ("" if reading is CALIBRATED else OTHER),
                reading.name,
                f"range of {label}",
                "1",
            ),
            printed,
            score_range(scores[reading.name], component),
            why,
            kind,
        )
        for reading, label, component, printed, why, kind in rows
    ]


def switches(sweeps: list[Sweep]) -> list[Cell]:
    """Fig. 3: the w_C from which on everything goes to the green node; only the same step is a reproduction."""
    cells = []
    for made in sweeps:
        if made.switch is None:
            raise AssertionError(f"{made.reading}: at w_C = 1 the lowest carbon must win")
        kind = "predicted" if made.switch == paper.SWITCH_WEIGHT else "not_reproducible"
        table = "Fig. 3" + ("" if made.reading == PRINTED_RANGES.name else OTHER)
        place = (table, made.reading, "switch at w_C", "1")
        cells.append(cell(place, paper.SWITCH_WEIGHT, made.switch, notes.SWITCH[made.reading], kind))
    return cells


def other_amp4ec(runs: Runs) -> list[Cell]:
    """The AMP4EC row under two other readings of what AMP4EC does."""
    printed = paper.TABLE_II[paper.AMP4EC]
    cells = []
    for reading, why in (
        (TABLE_II_TIMES.name, notes.AMP4EC_EQUAL),
        (WITHOUT_CARBON, notes.AMP4EC_RENORMALISED),
    ):
        key = Key(V2, reading, paper.AMP4EC)
        where = (f"Table II{OTHER}", reading if paper.AMP4EC in reading else f"{paper.AMP4EC}, {reading}")
        cells.append(cell((*where, "carbon", "g/inf"), printed.carbon_g, runs[key].carbon_g, why))
        assert printed.reduction_pct is not None  # Table II has one
        saved = reduction_pct(runs, key)
        cells.append(cell((*where, "reduction", "%"), printed.reduction_pct, saved, why))
    return cells


def other_table_v(runs: Runs) -> list[Cell]:
    """Table V under the other readings: the share of the node for which the paper prints 100 %."""
    cells = []
    for reading in READINGS:
        if reading is CALIBRATED:
            continue
        for mode, row in paper.TABLE_V.items():
            node = max(row, key=row.__getitem__)
            place = (f"Table V{OTHER}", f"{mode}, {reading.name}", f"Node-{node.title()}", "%")
            share = runs[Key(V2, reading.name, mode)].share_pct[node]
            cells.append(cell(place, row[node], share, notes.OTHER_READING[reading.name]))
    return cells


def other_proportions() -> list[Cell]:
    """The switch of the printed ranges for each mode's proportions of the other weights."""
    return [
        cell(
            (f"Fig. 3{OTHER}", f"proportions of {mode.title()}", "exact switch at w_C", "1"),
            paper.SWITCH_WEIGHT,
            exact_switch(paper.CARBON_SCORE_RANGE, paper.PERFORMANCE_SCORE_RANGE, weights),
            notes.SWITCH_PROPORTIONS,
        )
        for mode, weights in TABLE_I.items()
    ]
