"""The tcp model against uploads over real kernel connections (`carbonpilot traces transfers FILE`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..files import write_json
from .connection import WIRE_BYTES
from .profiles import PROFILES
from .recording import FIRST_UPLOADS, CellKey, RecordedCell, read_uploads
from .tcp import simulate_uploads

F64 = npt.NDArray[np.float64]

SIMULATED = 1200  # connections; with 400 the median of emu-b's 1 MB uploads moves by 6 % from seed to seed
# Of the median and the 95 % quantile. Many connections are judged plainly; of one connection a cell, chance decides
# much, so its tolerance is wider and it may lie within the spread of single connections.
TOLERANCES = np.array([0.15, 0.25])
TOLERANCES_OF_ONE = np.array([0.20, 0.30])
RESAMPLES, INTERVAL = 200, (2.5, 97.5)  # bootstrap over connections


@dataclass(frozen=True)
class Cell:
    """Measured and simulated quantiles of one (profile, congestion control, payload), ms."""

    profile: str
    congestion_control: str
    payload_bytes: int
    connections: int
    uploads: int
    measured_p50_ms: float
    measured_p95_ms: float
    measured_p50_ci95_ms: tuple[float, float] | None  # None for a single connection
    measured_p95_ci95_ms: tuple[float, float] | None
    model_p50_ms: float
    model_p95_ms: float
    connection_p50_ms: tuple[float, float]  # 5 and 95 % of the p50 of single simulated connections
    connection_p95_ms: tuple[float, float]
    verdict: str  # "ok", "undecided", "outside", or for a single connection "within connection spread"


def validate_transfers(csv_path: str | Path, json_path: str | Path | None = None, seed: int = 1) -> int:
    """Compare every cell of a recording with the model and print the table.

    A cell of many connections is "ok" when its median is within 15 % and its p95 within 25 %, "undecided" when only
    some of its own 95 % intervals is (more connections would tell), else "outside". A cell recorded over one connection
    is that connection's story, the model's pooled quantiles are those of many: there the tolerance is 20 % and 30 %,
    and a cell off it is "within connection spread" when both its quantiles lie in the middle 90 % of what single
    simulated connections show.

    Args:
        csv_path: file in the form of ``transfers/uploads_kernel_tcp.csv``, or made by `carbonpilot testbed uploads`.
        json_path: where to write the cells as JSON, if anywhere.
        seed: of the simulation.

    Returns:
        Exit code: 0 when no cell is outside, else 1.
    """
    cells = [_compare(key, cell, seed) for key, cell in read_uploads(Path(csv_path)).items()]
    print(render(cells))
    if json_path is not None:
        write_json(
            Path(json_path), {"schema": "carbonpilot/transfers/2", "cells": [asdict(c) for c in cells]}
        )
    return int(any(c.verdict == "outside" for c in cells))


def render(cells: list[Cell]) -> str:
    """The cells as a Markdown table with a count of the verdicts below it."""
    lines = [
        "| profile | cc | kB | connections | measured p50 / p95 ms | model p50 / p95 ms | model - measured "
        "| one connection's p50, p95 (5-95 %) | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_row, cells),
    ]
    kinds = ("ok", "undecided", "within connection spread", "outside")
    counts = ", ".join(f"{sum(c.verdict == kind for c in cells)} {kind}" for kind in kinds)
    return "\n".join([*lines, "", f"{len(cells)} cells: {counts}."])


def _row(c: Cell) -> str:
    off = f"{c.model_p50_ms / c.measured_p50_ms - 1:+.0%} / {c.model_p95_ms / c.measured_p95_ms - 1:+.0%}"
    spread = "{:.0f}-{:.0f}, {:.0f}-{:.0f}".format(*c.connection_p50_ms, *c.connection_p95_ms)
    parts = (
        c.profile,
        c.congestion_control,
        f"{c.payload_bytes / 1000:g}",
        str(c.connections),
        _with_interval(c.measured_p50_ms, c.measured_p50_ci95_ms)
        + " / "
        + _with_interval(c.measured_p95_ms, c.measured_p95_ci95_ms),
        f"{c.model_p50_ms:.1f} / {c.model_p95_ms:.1f}",
        off,
        spread,
        c.verdict,
    )
    return "| " + " | ".join(parts) + " |"


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.1f}" + ("" if interval is None else " ({:.1f}-{:.1f})".format(*interval))


def _compare(key: CellKey, cell: RecordedCell, seed: int) -> Cell:
    recorded = list(cell.connections.values())
    # The age of a connection matters, so all are cut to the shortest one, and the simulated ones as well.
    age = min(map(len, recorded))
    measured = np.array([uploads[FIRST_UPLOADS:age] for uploads in recorded]).T
    simulated = _simulate(key, cell, age, seed)
    ours, theirs = np.percentile(simulated, [50, 95]), np.percentile(measured, [50, 95])
    low, high = np.percentile(np.percentile(simulated, [50, 95], axis=0), [5, 95], axis=1)
    intervals = _intervals(measured) if len(recorded) > 1 else (None, None)
    return Cell(
        *key,
        connections=len(recorded),
        uploads=measured.size,
        measured_p50_ms=float(theirs[0]),
        measured_p95_ms=float(theirs[1]),
        measured_p50_ci95_ms=intervals[0],
        measured_p95_ci95_ms=intervals[1],
        model_p50_ms=float(ours[0]),
        model_p95_ms=float(ours[1]),
        connection_p50_ms=(float(low[0]), float(high[0])),
        connection_p95_ms=(float(low[1]), float(high[1])),
        verdict=_verdict_of_one(theirs, ours, low, high)
        if len(recorded) == 1
        else _verdict(theirs, ours, np.array(intervals)),
    )


def _simulate(key: CellKey, cell: RecordedCell, uploads: int, seed: int) -> F64:
    """Uploads of simulated connections (uploads - FIRST_UPLOADS, SIMULATED) over the rig's link, ms."""
    profile, control, payload_bytes = key
    link = PROFILES[profile]
    return simulate_uploads(
        control,
        link.rtt_ms + cell.rig_rtt_ms,
        link.rtt_jitter_ms,
        link.loss,
        min(link.rate_mbps, WIRE_BYTES * 8.0 / cell.rig_packet_us),
        payload_bytes,
        uploads,
        connections=SIMULATED,
        seed=seed,
    )[FIRST_UPLOADS:]


def _intervals(measured: F64) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % intervals of both quantiles; uploads of one connection are alike, so whole connections are resampled."""
    rng = np.random.default_rng(0)
    columns = rng.integers(0, measured.shape[1], (RESAMPLES, measured.shape[1]))
    again = np.array([np.percentile(measured[:, c], [50, 95]) for c in columns])
    low, high = np.percentile(again, INTERVAL, axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _verdict(measured: F64, simulated: F64, intervals: F64) -> str:
    if np.all(np.abs(simulated / measured - 1.0) <= TOLERANCES):
        return "ok"
    nearest = np.clip(simulated, intervals[:, 0], intervals[:, 1])
    return "undecided" if np.all(np.abs(simulated / nearest - 1.0) <= TOLERANCES) else "outside"


def _verdict_of_one(measured: F64, simulated: F64, low: F64, high: F64) -> str:
    if np.all(np.abs(simulated / measured - 1.0) <= TOLERANCES_OF_ONE):
        return "ok"
    return "within connection spread" if np.all((low <= measured) & (measured <= high)) else "outside"
