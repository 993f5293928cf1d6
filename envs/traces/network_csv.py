"""Network files: ``time_s,rtt_ms,loss_pct,down_mbps,up_mbps`` in any column order, more columns allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .columns import F64, in_order, numbers
from .defects import DefectLog
from .parsed import Parsed
from .records import NetworkTrace
from .source import Table, read_table
from .steps import usual_step

REQUIRED = ("time_s", "rtt_ms", "loss_pct", "down_mbps", "up_mbps")
COLUMNS = (*REQUIRED, "segment", "unix_s", "rtt_max_ms")
WHY_LOSS = "Loss is at most 100 %."


def parse(text: str, path: Path, log: DefectLog) -> Parsed | None:
    """Read the text; None where it holds no rows. The log says what is wrong."""
    table = read_table(text, log)
    if table is None or not table.require(REQUIRED, log):
        return None
    time_s = numbers(table, "time_s", log, may_be_empty=False)
    in_order(time_s, table.lines, "time_s", log)
    segment = _optional(table, "segment", log, may_be_empty=False)
    trace = NetworkTrace(
        file=str(path),
        time_s=time_s,
        step_s=usual_step(time_s, 1.0),
        segment=np.zeros(len(time_s), dtype=np.int64)
        if segment is None
        else np.nan_to_num(segment).astype(np.int64),
        unix_s=_or_nan(_optional(table, "unix_s", log), time_s),
        rtt_ms=numbers(table, "rtt_ms", log),
        rtt_max_ms=_or_nan(_optional(table, "rtt_max_ms", log), time_s),
        loss_pct=numbers(table, "loss_pct", log, high=100.0, why_high=WHY_LOSS),
        down_mbps=numbers(table, "down_mbps", log),
        up_mbps=numbers(table, "up_mbps", log),
    )
    measured = (trace.rtt_ms, trace.loss_pct, trace.down_mbps, trace.up_mbps)
    if all(np.isnan(column).all() for column in measured) and not log.errors:
        log.error(
            table.lines[0], "rtt_ms", "nothing was measured: rtt, loss, down and up are empty in every row"
        )
    return Parsed(trace, table.lines, {"time": "time_s"})


def _optional(table: Table, name: str, log: DefectLog, *, may_be_empty: bool = True) -> F64 | None:
    return numbers(table, name, log, may_be_empty=may_be_empty) if name in table.columns else None


def _or_nan(values: F64 | None, like: F64) -> F64:
    return np.full(len(like), np.nan) if values is None else values
