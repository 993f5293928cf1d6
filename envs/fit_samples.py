"""Recordings as the fits need them: columns of numbers, cut into pieces within which time runs on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import InputError, TraceError
from .traces.checks import STALL_MS

F64 = npt.NDArray[np.float64]


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, F64]:
    """Read columns of a trace CSV; an empty cell is NaN.

    Raises:
        InputError: there is no such file.
        TraceError: a column is missing or a cell is not a number.
    """
    if not path.is_file():
        raise InputError(
            f"There is no trace file {path}. The fit needs the folders grid/ and network/ with the files "
            "that docs/generators.md names. Give the folder that holds both."
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        absent = [name for name in names if name not in header]
        if absent:
            raise TraceError(f"{path}, line 1: column '{absent[0]}' is missing; found {', '.join(header)}.")
        places = [header.index(name) for name in names]
        table = [_numbers(path, number, row, places, names) for number, row in enumerate(rows, start=2)]
    columns = np.array(table, dtype=np.float64).reshape(-1, len(names)).T
    return dict(zip(names, columns, strict=True))


def _numbers(path: Path, line: int, row: list[str], places: list[int], names: tuple[str, ...]) -> list[float]:
    values = []
    for place, name in zip(places, names, strict=True):
        try:
            values.append(float(row[place]) if row[place] else float("nan"))
        except (ValueError, IndexError):
            got = row[place] if place < len(row) else "nothing"
            raise TraceError(f"{path}, line {line}, column {name}: expected a number, got '{got}'.") from None
    return values


@dataclass(frozen=True)
class LinkSample:
    """Seconds of one or more recordings end to end; ``piece`` changes where time jumps or a level may change.

    All arrays (N,): segment and piece numbers; RTT in ms, NaN where blocked; loss 0 to 1; the slowest reply's
    excess over the mean, as a multiple of the mean (NaN where not measured); blocked seconds.
    """

    segment: npt.NDArray[np.int64]
    piece: npt.NDArray[np.int64]
    rtt_ms: F64
    loss: F64
    excess: F64
    blocked: npt.NDArray[np.bool_]


def link_sample(folder: Path, sources: tuple[str, ...], piece_s: int) -> LinkSample:
    """Read link recordings.

    Args:
        folder: the trace folder.
        sources: ``network/NAME.csv``, or ``network/NAME.csv@0.0-0.6`` for a span of its rows.
        piece_s: segments longer than this are cut into pieces of it, each with a level of its own.
    """
    parts: list[LinkSample] = []
    for source in sources:
        first = parts[-1].segment[-1] + 1 if parts else 0
        piece = parts[-1].piece[-1] + 1 if parts else 0
        parts.append(_one_recording(folder, source, piece_s, int(first), int(piece)))
    names = ("segment", "piece", "rtt_ms", "loss", "excess", "blocked")
    return LinkSample(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def span_of_rows(source: str, rows: int) -> slice:
    """The rows that FILE or FILE@0.0-0.6 means."""
    if "@" not in source:
        return slice(0, rows)
    low, high = (float(edge) for edge in source.split("@")[1].split("-"))
    return slice(round(low * rows), round(high * rows))


def _one_recording(
    folder: Path, source: str, piece_s: int, first_segment: int, first_piece: int
) -> LinkSample:
    columns = read_columns(folder / source.split("@")[0], ("segment", "rtt_ms", "rtt_max_ms", "loss_pct"))
    span = span_of_rows(source, columns["segment"].size)
    segment, rtt, slowest, loss = (columns[n][span] for n in ("segment", "rtt_ms", "rtt_max_ms", "loss_pct"))
    blocked = ~(rtt <= STALL_MS) | (loss >= 100.0)
    segment = segment.astype(np.int64)
    since_start = np.arange(segment.size) - np.searchsorted(segment, segment, side="left")
    starts = (since_start % piece_s == 0).astype(np.int64)
    return LinkSample(
        segment=segment - segment[0] + first_segment,
        piece=np.cumsum(starts) - 1 + first_piece,
        rtt_ms=np.where(blocked, np.nan, rtt),
        loss=np.where(blocked, 0.0, np.nan_to_num(loss) / 100.0),
        excess=slowest / rtt - 1.0,
        blocked=blocked,
    )
