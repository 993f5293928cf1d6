"""Arrival files: a row per request, or a row per window of time.

``time_s[,input_tokens,output_tokens]`` or ``time_s,rate_req_per_s[,burst_cv,active_clients]``.
"""

from __future__ import annotations

from pathlib import Path

from .columns import F64, in_order, numbers
from .defects import DefectLog
from .parsed import Parsed
from .records import ArrivalTrace
from .source import Table, read_table
from .steps import usual_step

SIZES = ("input_tokens", "output_tokens")
RATES = ("rate_req_per_s", "burst_cv", "active_clients")
COLUMNS = ("time_s", *SIZES, *RATES)


def parse(text: str, path: Path, log: DefectLog) -> Parsed | None:
    """Read the text; None where it holds no rows. The log says what is wrong."""
    table = read_table(text, log)
    if table is None or not table.require(("time_s",), log):
        return None
    is_rate = "rate_req_per_s" in table.columns
    if not is_rate and any(name in table.columns for name in RATES):
        table.require(("rate_req_per_s",), log)
        return None
    time_s = numbers(table, "time_s", log, may_be_empty=False)
    in_order(time_s, table.lines, "time_s", log, may_repeat=not is_rate)
    if is_rate:
        trace = ArrivalTrace(
            str(path),
            "rate",
            time_s,
            usual_step(time_s, float("nan")),
            rate_req_per_s=numbers(table, "rate_req_per_s", log),
            burst_cv=_optional(table, "burst_cv", log, True),
            active_clients=_optional(table, "active_clients", log, True),
        )
    else:
        sizes = [_optional(table, name, log, False) for name in SIZES]
        trace = ArrivalTrace(str(path), "per_request", time_s, float("nan"), *sizes)
    return Parsed(trace, table.lines, {"time": "time_s", "rate_req_per_s": "rate_req_per_s"})


def _optional(table: Table, name: str, log: DefectLog, may_be_empty: bool) -> F64 | None:
    return numbers(table, name, log, may_be_empty=may_be_empty) if name in table.columns else None
