"""The tcp model against uploads over a real kernel connection (`carbonpilot traces transfers FILE`)."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import TraceError, unknown_name
from ..files import write_json
from .connection import WIRE_BYTES
from .profiles import PROFILES
from .tcp import CONTROLS, simulate_uploads

# The recording rig's own cost, read off the lan cells (a line through median against packets): the
# processes add 0.6 ms a round trip, and the user-space link moves one packet in 15.6 us (770 Mbit/s).
RIG_RTT_MS = 0.6
RIG_PACKET_US = 15.6
FIRST_UPLOADS = 3  # left out on both sides, as in the data's own table
CONNECTIONS = 100
P50_TOLERANCE, P95_TOLERANCE = 0.20, 0.30
COLUMNS = ("profile", "congestion_control", "payload_bytes", "upload_and_reply_ms")


@dataclass(frozen=True)
class Cell:
    """Measured and simulated quantiles of one (profile, congestion control, payload), ms."""

    profile: str
    congestion_control: str
    payload_bytes: int
    uploads: int
    measured_p50_ms: float
    measured_p95_ms: float
    model_p50_ms: float
    model_p95_ms: float
    connection_p50_ms: tuple[float, float]  # 5 and 95 % of the p50 of single connections
    connection_p95_ms: tuple[float, float]
    verdict: str  # "ok", "within connection spread" or "outside"


def validate_transfers(csv_path: str | Path, json_path: str | Path | None = None, seed: int = 1) -> int:
    """Compare every cell of a recording with the model and print the table.

    A recorded cell is one connection's story, the model's pooled quantiles are those of many: a cell off the
    tolerance is "within connection spread" when both its quantiles lie in the middle 90 % of what single
    simulated connections show, and "outside" otherwise.

    Args:
        csv_path: file in the form of ``transfers/uploads_kernel_tcp.csv``.
        json_path: where to write the cells as JSON, if anywhere.
        seed: of the simulation.

    Returns:
        Exit code: 0 when no cell is outside, else 1.
    """
    cells = [_compare(*key, uploads, seed) for key, uploads in _read(Path(csv_path)).items()]
    print(render(cells))
    if json_path is not None:
        write_json(
            Path(json_path), {"schema": "carbonpilot/transfers/1", "cells": [asdict(c) for c in cells]}
        )
    return int(any(c.verdict == "outside" for c in cells))


def render(cells: list[Cell]) -> str:
    """The cells as a Markdown table with a count of the verdicts below it."""
    lines = [
        "| profile | cc | kB | measured p50 / p95 ms | model p50 / p95 ms | model - measured "
        "| one connection's p50, p95 (5-95 %) | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, cells),
    ]
    kinds = ("ok", "within connection spread", "outside")
    counts = ", ".join(f"{sum(c.verdict == kind for c in cells)} {kind}" for kind in kinds)
    return "\n".join([*lines, "", f"{len(cells)} cells: {counts}."])


def _row(c: Cell) -> str:
    off = f"{c.model_p50_ms / c.measured_p50_ms - 1:+.0%} / {c.model_p95_ms / c.measured_p95_ms - 1:+.0%}"
    spread = "{:.0f}-{:.0f}, {:.0f}-{:.0f}".format(*c.connection_p50_ms, *c.connection_p95_ms)
    parts = (
        c.profile,
        c.congestion_control,
        f"{c.payload_bytes / 1000:g}",
        f"{c.measured_p50_ms:.1f} / {c.measured_p95_ms:.1f}",
        f"{c.model_p50_ms:.1f} / {c.model_p95_ms:.1f}",
        off,
        spread,
        c.verdict,
    )
    return "| " + " | ".join(parts) + " |"


def _compare(profile: str, control: str, payload_bytes: int, uploads_ms: list[float], seed: int) -> Cell:
    link = PROFILES[profile]
    rig_mbps = WIRE_BYTES * 8.0 / RIG_PACKET_US
    simulated = simulate_uploads(
        control,
        link.rtt_ms + RIG_RTT_MS,
        link.rtt_jitter_ms,
        link.loss,
        min(link.rate_mbps, rig_mbps),
        payload_bytes,
        len(uploads_ms),
        connections=CONNECTIONS,
        seed=seed,
    )[FIRST_UPLOADS:]
    measured = np.percentile(uploads_ms[FIRST_UPLOADS:], [50, 95])
    pooled = np.percentile(simulated, [50, 95])
    single = np.percentile(simulated, [50, 95], axis=0)  # (2, connections)
    low, high = np.percentile(single, [5, 95], axis=1)
    return Cell(
        profile=profile,
        congestion_control=control,
        payload_bytes=payload_bytes,
        uploads=len(uploads_ms),
        measured_p50_ms=float(measured[0]),
        measured_p95_ms=float(measured[1]),
        model_p50_ms=float(pooled[0]),
        model_p95_ms=float(pooled[1]),
        connection_p50_ms=(float(low[0]), float(high[0])),
        connection_p95_ms=(float(low[1]), float(high[1])),
        verdict=_verdict(measured, pooled, low, high),
    )


def _verdict(measured: npt.NDArray, pooled: npt.NDArray, low: npt.NDArray, high: npt.NDArray) -> str:
    if np.all(np.abs(pooled / measured - 1.0) <= [P50_TOLERANCE, P95_TOLERANCE]):
        return "ok"
    if np.all((low <= measured) & (measured <= high)):
        return "within connection spread"
    return "outside"


def _read(path: Path) -> dict[tuple[str, str, int], list[float]]:
    """Uploads of each (profile, congestion control, payload), in the file's order."""
    cells: dict[tuple[str, str, int], list[float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise TraceError(
                    f"{path}, line 1: columns {missing} are missing; expected at least {COLUMNS}."
                )
            for row in reader:
                cells.setdefault(_key(path, reader.line_num, row), []).append(
                    _positive(path, reader.line_num, row, "upload_and_reply_ms")
                )
    except OSError as error:
        raise TraceError(
            f"{path}: cannot be read ({error.strerror}). Give the recording's CSV file."
        ) from error
    short = [key for key, uploads in cells.items() if len(uploads) <= FIRST_UPLOADS]
    if short or not cells:
        raise TraceError(
            f"{path}: every cell needs more than {FIRST_UPLOADS} uploads; too few in {short or 'the file'}."
        )
    return cells


def _key(path: Path, line: int, row: dict[str, str]) -> tuple[str, str, int]:
    for column, known in (("profile", PROFILES), ("congestion_control", CONTROLS)):
        if row[column] not in known:
            raise TraceError(f"{path}, line {line}, {column}: {unknown_name(column, row[column], known)}")
    return row["profile"], row["congestion_control"], int(_positive(path, line, row, "payload_bytes"))


def _positive(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = float("nan")
    if not (0.0 < value < float("inf")):
        raise TraceError(f"{path}, line {line}, {column}: expected a number above 0, got '{row[column]}'.")
    return value
