"""Grid files of the form ``utc_time,carbon_g_per_kwh[,low_carbon_pct,estimated]``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .columns import F64, flags, in_order, instants, numbers
from .defects import DefectLog
from .parsed import Parsed
from .records import GridTrace
from .source import Table, read_table
from .steps import usual_step

COLUMNS = ("utc_time", "carbon_g_per_kwh", "low_carbon_pct", "estimated")
REQUIRED = COLUMNS[:2]
HOUR_S = 3600.0

# No grid comes near it: the worst source, lignite, is at 1,000 to 1,300 g/kWh life-cycle (assumed).
IMPOSSIBLE_G_PER_KWH = 2000.0
WHY_IMPOSSIBLE = "No grid is that dirty: is the unit lb/MWh or kg/MWh instead of g/kWh?"


def parse(text: str, path: Path, log: DefectLog) -> Parsed | None:
    """Read the text; None where it holds no rows. The log says what is wrong."""
    table = read_table(text, log)
    if table is None or not table.require(REQUIRED, log):
        return None
    unix_s = instants(table, "utc_time", log)
    in_order(unix_s, table.lines, "utc_time", log, shown=table.columns["utc_time"])
    stated = "estimated" in table.columns
    trace = GridTrace(
        file=str(path),
        form="grid-csv",
        zone=path.stem,
        unix_s=unix_s,
        step_s=usual_step(unix_s, HOUR_S),
        carbon_g_per_kwh=intensity(table, "carbon_g_per_kwh", log),
        forecast_g_per_kwh=None,
        estimated=flags(table, "estimated", log) if stated else np.zeros(len(unix_s), dtype=bool),
        estimated_stated=stated,
        low_carbon_pct=percent(table, "low_carbon_pct", log) if "low_carbon_pct" in table.columns else None,
        factors="not stated",
    )
    return Parsed(trace, table.lines, {"time": "utc_time", "carbon_g_per_kwh": "carbon_g_per_kwh"})


def intensity(table: Table, name: str, log: DefectLog) -> F64:
    """A column of carbon intensities, g/kWh, that holds at least one."""
    values = numbers(table, name, log, high=IMPOSSIBLE_G_PER_KWH, why_high=WHY_IMPOSSIBLE)
    if all(not c.strip() for c in table.columns[name]):
        log.error(table.lines[0], name, "no row holds an intensity")
    return values


def percent(table: Table, name: str, log: DefectLog) -> F64:
    """A column of shares, percent."""
    return numbers(table, name, log, high=100.0, why_high="A share is at most 100 %.")
