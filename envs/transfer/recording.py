"""Recorded uploads: the CSV files of data/transfers and of `carbonpilot testbed uploads`."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import TraceError, unknown_name
from .profiles import PROFILES
from .tcp import CONTROLS

FIRST_UPLOADS = 3  # of a connection, left out on both sides, as in the data's own table
COLUMNS = ("profile", "congestion_control", "payload_bytes", "upload_and_reply_ms")
# The rig of uploads_kernel_tcp.csv, read off its lan cells (a line through median against packets): the processes
# add 0.6 ms a round trip, and the user-space link moves one packet in 15.6 us (770 Mbit/s). Files of the test bed
# carry the numbers of their own rig.
RIG_RTT_MS = 0.6
RIG_PACKET_US = 15.6

CellKey = tuple[str, str, int]  # profile, congestion control, payload bytes


@dataclass
class RecordedCell:
    """Uploads of one payload over one profile with one congestion control.

    Attributes:
        connections: ms of each upload, by connection, in their order; files without a ``connection`` column are
            one connection a cell.
        rig_rtt_ms: what the rig added to every round trip.
        rig_packet_us: time the rig took to move one packet.
    """

    connections: dict[str, list[float]] = field(default_factory=dict)
    rig_rtt_ms: float = RIG_RTT_MS
    rig_packet_us: float = RIG_PACKET_US


def read_uploads(path: Path) -> dict[CellKey, RecordedCell]:
    """The cells of a recording, in the file's order.

    Raises:
        TraceError: the file is broken; names line and column.
    """
    cells: dict[CellKey, RecordedCell] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise TraceError(
                    f"{path}, line 1: columns {missing} are missing; expected at least {COLUMNS}."
                )
            for row in reader:
                _take(path, reader.line_num, row, cells)
    except OSError as error:
        raise TraceError(
            f"{path}: cannot be read ({error.strerror}). Give the recording's CSV file."
        ) from error
    short = [key for key, cell in cells.items() if min(map(len, cell.connections.values())) <= FIRST_UPLOADS]
    if short or not cells:
        raise TraceError(
            f"{path}: every cell needs more than {FIRST_UPLOADS} uploads a connection; "
            f"too few in {short or 'the file'}."
        )
    return cells


def _take(path: Path, line: int, row: dict[str, str], cells: dict[CellKey, RecordedCell]) -> None:
    cell = cells.setdefault(_key(path, line, row), RecordedCell())
    took_ms = _positive(path, line, row, "upload_and_reply_ms")
    cell.connections.setdefault(row.get("connection") or "", []).append(took_ms)
    if row.get("rig_rtt_ms"):
        cell.rig_rtt_ms = _positive(path, line, row, "rig_rtt_ms")
        cell.rig_packet_us = _positive(path, line, row, "rig_packet_us")


def _key(path: Path, line: int, row: dict[str, str]) -> CellKey:
    for column, known in (("profile", PROFILES), ("congestion_control", CONTROLS)):
        if row[column] not in known:
            raise TraceError(f"{path}, line {line}, {column}: {unknown_name(column, row[column], known)}")
    return row["profile"], row["congestion_control"], int(_positive(path, line, row, "payload_bytes"))


def _positive(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError, KeyError):
        value = float("nan")
    if not (0.0 < value < float("inf")):
        raise TraceError(
            f"{path}, line {line}, {column}: expected a number above 0, got '{row.get(column)}'."
        )
    return value
