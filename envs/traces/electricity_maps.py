"""Electricity Maps' CSV export (yearly files: hourly, five-minute and daily), in its historic spellings.

Up to 2023 the columns read ``Carbon Intensity gCO₂eq/kWh (LCA)`` and ``Low Carbon Percentage``, later
``Carbon intensity gCO₂eq/kWh (Life cycle)`` and ``Carbon-free energy percentage (CFE%)``; capitals
differ between years. Names are compared without capitals, the subscript and double blanks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .columns import flags, in_order, instants
from .defects import DefectLog
from .grid_csv import HOUR_S, intensity, percent
from .parsed import Parsed
from .records import Factors, GridTrace
from .source import Table, read_table
from .steps import usual_step

TIME = "datetime (utc)"
LIFECYCLE = ("carbon intensity gco2eq/kwh (lca)", "carbon intensity gco2eq/kwh (life cycle)")
DIRECT = ("carbon intensity gco2eq/kwh (direct)",)
LOW_CARBON = ("low carbon percentage", "carbon-free energy percentage (cfe%)")
ZONE = ("zone id",)
ESTIMATED = ("data estimated",)
OTHER = ("country", "zone name", "data source", "data estimation method")
COLUMNS = (TIME, *LIFECYCLE, *DIRECT, *LOW_CARBON, *ZONE, *ESTIMATED, *OTHER)


def plain(name: str) -> str:
    """A column name without what differs between the years."""
    return " ".join(name.replace("₂", "2").lower().split())


def parse(text: str, path: Path, log: DefectLog, factors: Factors = "lifecycle") -> Parsed | None:
    """Read the text; None where it holds no rows. The log says what is wrong.

    Args:
        text: the file's text.
        path: where it came from.
        log: takes the defects.
        factors: which of the export's two intensities to take, "lifecycle" or "direct".
    """
    table = read_table(text, log)
    if table is None:
        return None
    named = {plain(name): name for name in table.header}
    carbon = _one_of(LIFECYCLE if factors == "lifecycle" else DIRECT, named)
    if TIME not in named:
        table.require(("Datetime (UTC)",), log)
    if carbon is None:
        other = _one_of(DIRECT if factors == "lifecycle" else LIFECYCLE, named)
        if other is None:
            table.require(("Carbon intensity gCO₂eq/kWh (Life cycle)",), log)
        else:
            wanted = "direct" if factors == "lifecycle" else "lifecycle"
            log.error(
                1, other, f"the file has only {wanted} intensity. Read it with factors='{wanted}', knowingly"
            )
    if TIME not in named or carbon is None:
        return None
    time = named[TIME]
    unix_s = instants(table, time, log)
    in_order(unix_s, table.lines, time, log, shown=table.columns[time])
    stated, low_carbon = _one_of(ESTIMATED, named), _one_of(LOW_CARBON, named)
    trace = GridTrace(
        file=str(path),
        form="electricity-maps",
        zone=_zone(table, _one_of(ZONE, named), path, log),
        unix_s=unix_s,
        step_s=usual_step(unix_s, HOUR_S),
        carbon_g_per_kwh=intensity(table, carbon, log),
        forecast_g_per_kwh=None,
        estimated=flags(table, stated, log) if stated else np.zeros(len(unix_s), dtype=bool),
        estimated_stated=stated is not None,
        low_carbon_pct=percent(table, low_carbon, log) if low_carbon else None,
        factors=factors,
    )
    return Parsed(trace, table.lines, {"time": time, "carbon_g_per_kwh": carbon})


def _one_of(spellings: tuple[str, ...], named: dict[str, str]) -> str | None:
    return next((named[s] for s in spellings if s in named), None)


def _zone(table: Table, column: str | None, path: Path, log: DefectLog) -> str:
    if column is None:
        return path.stem
    cells = table.columns[column]
    for i, cell in enumerate(cells):
        if cell != cells[0]:
            log.error(
                table.lines[i],
                column,
                f"zone {cell!r} after {cells[0]!r}: a trace is one zone. Split the file",
            )
            break
    return cells[0]
