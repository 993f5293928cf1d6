"""From text cells to numbers, instants and flags; every bad cell is named by line and column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from .defects import DefectLog
from .source import Table

F64 = npt.NDArray[np.float64]
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def numbers(
    table: Table,
    name: str,
    log: DefectLog,
    *,
    low: float | None = 0.0,
    high: float | None = None,
    why_high: str = "",
    may_be_empty: bool = True,
) -> F64:
    """A column as float64; empty and NaN cells mean "not measured" and come out as NaN.

    Args:
        table: the file's cells.
        name: column name.
        log: where bad cells are noted.
        low: least allowed value.
        high: greatest allowed value.
        why_high: what a value above ``high`` probably is.
        may_be_empty: whether "not measured" is allowed here.
    """
    cells = table.columns[name]
    try:
        # A column that was never measured is common, and passing it by saves a third of the loading time.
        measured = any(cells)
        values = (
            np.array([float(c) if c else math.nan for c in cells])
            if measured
            else np.full(len(cells), math.nan)
        )
        odd = "_" in "".join(cells)  # float() takes 1_000, a CSV must not
    except ValueError:
        values, odd = np.zeros(0), True
    if odd:
        values = np.array([_number(c, line, name, log) for c, line in zip(cells, table.lines, strict=True)])
    limits(values, table.lines, name, log, low, high, why_high)
    if not may_be_empty:
        for i in map(int, np.flatnonzero(np.isnan(values))):
            if not odd or not cells[i].strip() or cells[i].strip().lower() == "nan":
                log.error(table.lines[i], name, "empty or NaN; this column needs a value in every row")
    return values


def limits(
    values: F64,
    lines: np.ndarray,
    name: str,
    log: DefectLog,
    low: float | None,
    high: float | None,
    why_high: str,
) -> None:
    """Note every value that is infinite or beyond its limits."""
    for i in map(int, np.flatnonzero(np.isinf(values))):
        log.error(lines[i], name, f"{values[i]} is not a finite number")
    if low is not None:
        for i in map(int, np.flatnonzero(values < low)):
            said = "negative" if low == 0 else f"below {low:g}"
            log.error(lines[i], name, f"{values[i]:g} is {said}; expected {low:g} or more")
    if high is not None:
        for i in map(int, np.flatnonzero((values > high) & ~np.isinf(values))):
            log.error(lines[i], name, f"{values[i]:g} is above {high:g}. {why_high}".rstrip())


def _number(cell: str, line: int, name: str, log: DefectLog) -> float:
    text = cell.strip()
    if not text:
        return math.nan
    try:
        if "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        hint = " Use a decimal point." if text.count(",") == 1 else ""
        log.error(
            line, name, f"{cell!r} is not a number.{hint} Leave the cell empty where nothing was measured"
        )
        return math.nan


def instant(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 instant; one without an offset is UTC (the columns' names say so).

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def instants(table: Table, name: str, log: DefectLog) -> F64:
    """A column of instants as unix seconds; each that is none is an error."""
    return np.array(
        [_instant(c, line, name, log) for c, line in zip(table.columns[name], table.lines, strict=True)]
    )


def _instant(cell: str, line: int, name: str, log: DefectLog) -> float:
    try:
        return instant(cell)
    except ValueError:
        got = f"{cell!r} is not a time" if cell.strip() else "empty; every row needs a time"
        log.error(line, name, f"{got}. Expected ISO 8601 in UTC, e.g. 2022-01-01T00:00:00Z")
        return math.nan


def flags(table: Table, name: str, log: DefectLog) -> npt.NDArray[np.bool_]:
    """A column of 0/1 or true/false; an empty cell is an error, because it says neither."""
    cells: Sequence[str] = table.columns[name]
    known = {c: FLAGS.get(c.strip().lower()) for c in set(cells)}
    if None in known.values():
        for cell, line in zip(cells, table.lines, strict=True):
            if known[cell] is None:
                log.error(line, name, f"{cell!r} is neither 0/1 nor true/false")
    return np.array([bool(known[c]) for c in cells])


def in_order(
    times: F64,
    lines: np.ndarray,
    name: str,
    log: DefectLog,
    *,
    may_repeat: bool = False,
    shown: Sequence[str] = (),
) -> None:
    """Note every time that repeats the one before it or goes back."""
    steps = np.diff(times)
    for i in map(int, np.flatnonzero(steps < 0 if may_repeat else steps <= 0) + 1):
        now = shown[i] if shown else f"{times[i]:g}"
        before = shown[i - 1] if shown else f"{times[i - 1]:g}"
        if steps[i - 1] == 0:
            log.error(lines[i], name, f"{now} is the same time as in line {lines[i - 1]}, the row before")
        else:
            log.error(
                lines[i], name, f"time goes back: {now} after {before} (line {lines[i - 1]}). Sort the rows"
            )
