"""The GB Carbon Intensity API's JSON: ``{data: [{from, to, intensity: {forecast, actual, index}}]}``.

Forecast and actual are two signals. The regional forms wrap the same records into
``{regionid, shortname, data}``, one region's object or a list of one, and hold forecasts only.
Defects name the JSON field as the column.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from .columns import in_order, instant, limits
from .defects import DefectLog
from .grid_csv import IMPOSSIBLE_G_PER_KWH, WHY_IMPOSSIBLE
from .parsed import Parsed
from .records import GridTrace
from .steps import usual_step

HALF_HOUR_S = 1800.0
EXPECTED = "expected {data: [{from, to, intensity: {forecast, actual}}]}"


def parse(text: str, path: Path, log: DefectLog) -> Parsed | None:
    """Read the text; None where it holds no records. The log says what is wrong."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as err:
        log.error(
            err.lineno, None, f"not JSON: {err.msg} at character {err.colno}. Was the download cut off?"
        )
        return None
    found = _records(document, log)
    if found is None:
        return None
    zone, records = found
    if not records:
        log.error(1, "data", "no records; ask the API for a span of time that it covers")
        return None
    lines = _lines(text, records)
    rows = [_row(r, line, log) for r, line in zip(records, lines, strict=True)]
    unix_s, forecast, actual = np.array(rows).T.copy()
    in_order(
        unix_s, lines, "from", log, shown=[str(r.get("from")) if isinstance(r, dict) else "" for r in records]
    )
    for name, values in (("intensity.forecast", forecast), ("intensity.actual", actual)):
        limits(values, lines, name, log, 0.0, IMPOSSIBLE_G_PER_KWH, WHY_IMPOSSIBLE)
    if np.isnan(forecast).all() and np.isnan(actual).all() and not log.errors:
        log.error(lines[0], "intensity", "no record holds a forecast or an actual intensity")
    trace = GridTrace(
        file=str(path),
        form="gb-carbon-intensity",
        zone=zone,
        unix_s=unix_s,
        step_s=usual_step(unix_s, HALF_HOUR_S),
        carbon_g_per_kwh=actual,
        forecast_g_per_kwh=forecast,
        estimated=np.zeros(len(unix_s), dtype=bool),
        estimated_stated=False,
        low_carbon_pct=None,
        factors="not stated",
    )
    return Parsed(trace, lines, {"time": "from", "carbon_g_per_kwh": "intensity.actual"})


def _records(document: Any, log: DefectLog) -> tuple[str, list] | None:
    """Zone name and half-hourly records of a national or a one-region answer."""
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        log.error(1, "error", f"the file holds the API's error answer: {document['error'].get('message')}")
        return None
    data = document.get("data") if isinstance(document, dict) else None
    if isinstance(data, dict):
        data = [data]
    if not isinstance(data, list):
        log.error(1, "data", f"missing or no list; {EXPECTED}")
        return None
    if any(isinstance(r, dict) and "regions" in r for r in data):
        log.error(1, "data.regions", "holds all regions; ask the API for one (/regional/.../regionid/ID)")
        return None
    regions = [r for r in data if isinstance(r, dict) and "data" in r]
    if not regions:
        return "GB", data
    if len(data) > 1 or not isinstance(regions[0]["data"], list):
        log.error(1, "data", f"holds {len(data)} regions; a trace is one. Ask the API for one (/regionid/ID)")
        return None
    return f"GB-{regions[0].get('shortname', regions[0].get('regionid', 'region'))}", regions[0]["data"]


def _lines(text: str, records: list) -> np.ndarray:
    """Line of each record: the n-th "from" key belongs to the n-th record that has one."""
    ends = np.array([m.start() for m in re.finditer("\n", text)])
    keys = [m.start() for m in re.finditer(r'"from"\s*:', text)]
    found = np.searchsorted(ends, keys) + 1
    order = np.cumsum([isinstance(r, dict) and "from" in r for r in records]) - 1
    return np.array([found[max(k, 0)] if len(found) else 1 for k in order])


def _row(record: Any, line: int, log: DefectLog) -> tuple[float, float, float]:
    """(from as unix seconds, forecast, actual) of a record, NaN where null, absent or broken."""
    if not isinstance(record, dict) or not isinstance(record.get("intensity"), dict):
        log.error(line, "intensity", f"a record without an intensity object; {EXPECTED}")
        return math.nan, math.nan, math.nan
    start, end = _time(record, "from", line, log), _time(record, "to", line, log)
    if end <= start:
        log.error(line, "to", f"{record['to']} is not after from = {record['from']}")
    values = record["intensity"]
    return start, _value(values, "forecast", line, log), _value(values, "actual", line, log)


def _time(record: dict, key: str, line: int, log: DefectLog) -> float:
    try:
        return instant(record[key])
    except KeyError:
        log.error(line, key, f"this field is missing; the record holds: {', '.join(record)}")
    except (ValueError, TypeError, AttributeError):
        log.error(line, key, f"{record[key]!r} is not a time; expected e.g. 2022-07-14T14:30Z")
    return math.nan


def _value(values: dict, key: str, line: int, log: DefectLog) -> float:
    value = values.get(key)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        log.error(line, f"intensity.{key}", f"{value!r} is not a number")
        return math.nan
    return float(value)
