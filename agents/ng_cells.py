"""The figures that Ng et al. print beside ours: fitted, predicted, or not reproducible and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from . import ng_notes as notes
from . import ng_paper as paper
from .ng_accuracy import Row, mape
from .ng_lemmas import Tenant, lemma_3_1, tenants_to_tip
from .ng_split import Bar
from .ng_split_cells import fig_5a
from .ng_timelines import Stretch, Timeline
from .paper_cells import Cell, cell


def all_cells(timelines: dict[str, Timeline], accuracy: Sequence[Row], split: Sequence[Bar]) -> list[Cell]:
    """Every cell: case studies, crossovers, frequency levels, accuracy, split processing, and what cannot be had."""
    return [
        *case_1(timelines["ng-network"]),
        *case_2(timelines["ng-tenants"]),
        *crossovers(),
        *levels(),
        *accuracy_cells(accuracy),
        *fig_5a(split),
        *missing(),
    ]


def case_1(timeline: Timeline) -> list[Cell]:
    """Section 5.2: offload, offload, local, offload."""
    _, middle, bad, last = timeline.stretches
    device, away = bad.forms_ms
    _, back_to_local, back_to_edge = paper.CASE_1_CHANGES_S
    table = "Section 5.2"
    return [
        cell((table, "on the device", "predicted", "ms"), paper.CASE_1_DEVICE_MS, device,
             notes.FITTED_DEVICE, fitted=True),
        cell((table, "offloading at 2 Mbit/s", "predicted", "ms"), paper.CASE_1_OFFLOAD_MS, away,
             notes.FITTED_OFFLOAD, fitted=True),
        *(_chosen(table, s) for s in (timeline.stretches[0], middle)),
        cell((table, "2 Mbit/s", "local from", "s"), back_to_local, bad.reached_s, notes.SWITCH),
        _chosen(table, bad),
        cell((table, "20 Mbit/s again", "offloads from", "s"), back_to_edge, last.reached_s, notes.SWITCH),
        _chosen(table, last),
        cell((table, "0-80 s", "changes", "1"), 2, timeline.changes, notes.CHANGES),
    ]  # fmt: skip


def case_2(timeline: Timeline) -> list[Cell]:
    """Section 5.3: E1, E2, local."""
    first, second, third = timeline.stretches
    to_e2, to_local = paper.CASE_2_CHANGES_S
    table = "Section 5.3"
    return [
        _chosen(table, first),
        cell((table, second.condition, "to E2 from", "s"), to_e2, second.reached_s, notes.SWITCH),
        _chosen(table, second),
        cell((table, third.condition, "local from", "s"), to_local, third.reached_s, notes.SWITCH),
        replace(_chosen(table, third), kind="fitted", note=notes.FITTED_TENANTS),
        cell((table, "0-240 s", "changes", "1"), 2, timeline.changes, notes.CHANGES),
    ]


def _chosen(table: str, stretch: Stretch) -> Cell:
    row = f"{stretch.start_s:g}-{stretch.end_s:g} s, {stretch.condition}"
    return cell((table, row, f"chooses {stretch.expected}", "%"), 100.0, 100 * stretch.share)


def crossovers() -> list[Cell]:
    """Sections 4.5, 4.7 and 4.8."""
    nano = replace(_rtx("orin-nano"), device_parallelism=paper.NANO_K)
    single = lemma_3_1(paper.fig_5c())
    slow = lemma_3_1(paper.fig_5b(10.0)).tips_at_per_s  # the device wins up to the first tip
    share = 100 * float(np.mean([not slow or rate < slow[0] for rate in _rates()]))
    crossing = lemma_3_1(paper.fig_5b(20.0)).tips_at_per_s
    return [
        cell(("Fig. 4a", "Orin Nano, RTX 4070", "offloads from", "Mbit/s"), paper.NANO_TIP_MBPS,
             lemma_3_1(nano).tips_at_mbps[-1], notes.NANO_TIP, fitted=True),
        cell(("Fig. 4a", "TX2, RTX 4070", "offloads from", "Mbit/s"), paper.TX2_TIP_MBPS,
             lemma_3_1(_rtx("tx2")).tips_at_mbps[-1], notes.TX2_TIP),
        cell(("Fig. 5b", "20 Mbit/s", "offloads from", "RPS"), paper.CROSSOVER_PER_S, crossing[0],
             notes.CROSSOVER, fitted=True),
        cell(("Fig. 5b", "10 Mbit/s", "device wins", "% of rates"), 100.0, share, notes.NO_CROSSOVER, fitted=True),
        cell(("Fig. 5c", "2 RPS each", "offloads up to", "applications"), paper.CROSSOVER_APPLICATIONS,
             float(_applications()), notes.APPLICATIONS, fitted=True),
        _said("Fig. 5c", "one application", "offloading is faster", single.winner == "edge", notes.INCEPTION),
    ]  # fmt: skip


def levels() -> list[Cell]:
    """Section 4.3: clock levels at which the device beats the A2, at 2 RPS and 5 Mbit/s."""
    tx2, nano = len(paper.TX2_MHZ), len(paper.NANO_MHZ)
    mobile, inception, yolo = "mobilenet-v2", "inception-v4", "yolov8n"
    return [
        _levels(
            "Fig. 2a", mobile, "tx2", "device", paper.TOP_LEVELS[mobile], notes.FITTED_LEVELS, fitted=True
        ),
        _levels("Fig. 2b", mobile, "orin-nano", "device", nano, notes.NANO_LEVELS),
        _levels("Fig. 2c", inception, "tx2", "edge", tx2, notes.INCEPTION),
        _levels("Fig. 2d", inception, "orin-nano", "edge", nano, notes.INCEPTION),
        _levels("Fig. 2e", yolo, "tx2", "device", paper.TOP_LEVELS[yolo], notes.FITTED_YOLO, fitted=True),
        _levels("Fig. 2f", yolo, "orin-nano", "device", nano, notes.YOLO_NANO),
    ]


def _levels(
    table: str, model: str, device: str, side: str, printed: int, note: str, *, fitted: bool = False
) -> Cell:
    clocks = paper.TX2_MHZ if device == "tx2" else paper.NANO_MHZ
    cases = [paper.case(model, device, "a2", paper.FIG_2_MBPS, mhz / clocks[0]) for mhz in clocks]
    if device == "orin-nano" and model == "mobilenet-v2":
        cases = [replace(c, device_parallelism=paper.NANO_K, edge_parallelism=paper.A2_K) for c in cases]
    wins = sum(lemma_3_1(c).winner == side for c in cases)
    return cell((table, f"{model}, {device}", f"{side} wins", "levels"), printed, wins, note, fitted=fitted)


def accuracy_cells(rows: Sequence[Row]) -> list[Cell]:
    """Section 4.3's accuracy, beside the forms' accuracy against our simulator."""
    held = [r for r in rows if r.setting.holds]
    off = np.abs([r.deviation for r in held])
    note = notes.ACCURACY.format(settings=len(held), error=max(r.standard_error for r in held))
    figures = (
        ("mean absolute error", paper.MAPE_PCT, mape(held)),
        ("within 5 %", paper.WITHIN_5_PCT, float(np.mean(off <= 0.05))),
        ("within 10 %", paper.WITHIN_10_PCT, float(np.mean(off <= 0.10))),
    )
    return [
        Cell("Section 4.3", "closed forms", name, "%", printed, 100 * ours, 100 * ours / printed - 1,
             "predicted", note)
        for name, printed, ours in figures
    ]  # fmt: skip


def missing() -> list[Cell]:
    """Printed figures without what they would need."""
    gone = "not_reproducible"
    return [
        Cell("Fig. 3b", "Llama-3.2-1B", "saved by offloading, up to", "s", 30.0, None, None, gone, notes.LLM)
    ]


def _said(table: str, row: str, column: str, holds: bool, note: str) -> Cell:
    """A sentence without a number: 1 if it holds."""
    return cell((table, row, column, "1"), 1.0, float(holds), note)


def _rtx(device: str):
    return paper.case("mobilenet-v2", device, "rtx-4070", paper.TX2_TIP_MBPS)


def _rates() -> range:
    return range(1, int(paper.FIG_5B_MOST_PER_S) + 1)


def _applications() -> int:
    """Applications with which offloading still wins, the device's own among them."""
    case = paper.fig_5c()
    others = tenants_to_tip(case, Tenant(paper.RATE_PER_S, case.edge_service_ms))
    assert others is not None
    return others
