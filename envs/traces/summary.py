"""A trace file in a few numbers: what `traces summary` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .checks import STALL_MS, utc
from .readers import kind_of, read_trace
from .records import ArrivalTrace, GridTrace, NetworkTrace
from .steps import F64, gaps


def summarise(path: str | Path) -> dict[str, Any]:
    """Summarise a trace file; what it does not have is None.

    Returns:
        file, kind, form, zone, rows, start (UTC or None), span_s, step_s, gaps, gap_s, estimated_share,
        outage_share, stall_share, segments, and per measured column under ``columns``: unit, min, median,
        p95, max, empty (share of rows without a value).

    Raises:
        TraceError: the file is broken.
        InputError: the file does not exist or cannot be read.
    """
    trace = read_trace(path)
    kind = kind_of(trace)
    time_s = trace.unix_s if isinstance(trace, GridTrace) else trace.time_s
    step_s = None if np.isnan(trace.step_s) else trace.step_s
    holes = [] if step_s is None else gaps(time_s, step_s)
    out: dict[str, Any] = {
        "file": str(path),
        "kind": kind,
        "form": trace.form if isinstance(trace, GridTrace) else kind + "-csv",
        "zone": None,
        "rows": len(time_s),
        "start": None,
        "span_s": float(time_s[-1] - time_s[0] + (step_s or 0.0)),
        "step_s": step_s,
        "gaps": len(holes),
        "gap_s": float(sum(g.missing_s for g in holes)),
        "estimated_share": None,
        "outage_share": None,
        "stall_share": None,
        "segments": None,
    }
    columns = {GridTrace: _grid, NetworkTrace: _network, ArrivalTrace: _arrivals}[type(trace)](trace, out)
    described = {
        name: _describe(values, unit) for name, (values, unit) in columns.items() if values is not None
    }
    out["columns"] = {name: row for name, row in described.items() if row is not None}
    return out


def _grid(trace: GridTrace, out: dict[str, Any]) -> dict[str, tuple[F64 | None, str]]:
    out["zone"], out["start"] = trace.zone, utc(trace.unix_s[0])
    out["estimated_share"] = float(trace.estimated.mean()) if trace.estimated_stated else None
    return {
        "carbon_g_per_kwh": (trace.carbon_g_per_kwh, "g/kWh"),
        "forecast_g_per_kwh": (trace.forecast_g_per_kwh, "g/kWh"),
        "low_carbon_pct": (trace.low_carbon_pct, "%"),
    }


def _network(trace: NetworkTrace, out: dict[str, Any]) -> dict[str, tuple[F64 | None, str]]:
    clock = trace.unix_s[~np.isnan(trace.unix_s)]
    out["start"] = utc(clock.min()) if len(clock) else None
    out["segments"] = len(np.unique(trace.segment))
    if not np.isnan(trace.loss_pct).all():
        out["outage_share"] = float(np.mean(trace.loss_pct == 100))
    if not np.isnan(trace.rtt_ms).all():
        out["stall_share"] = float(np.mean(trace.rtt_ms > STALL_MS))
    names = {"rtt_ms": "ms", "rtt_max_ms": "ms", "loss_pct": "%", "down_mbps": "Mbit/s", "up_mbps": "Mbit/s"}
    return {name: (getattr(trace, name), unit) for name, unit in names.items()}


def _arrivals(trace: ArrivalTrace, out: dict[str, Any]) -> dict[str, tuple[F64 | None, str]]:
    out["form"] = f"arrivals-csv ({trace.kind})"
    gap_s = np.diff(trace.time_s) if trace.kind == "per_request" and len(trace.time_s) > 1 else None
    return {
        "time_between_s": (gap_s, "s"),
        "input_tokens": (trace.input_tokens, "tokens"),
        "output_tokens": (trace.output_tokens, "tokens"),
        "rate_req_per_s": (trace.rate_req_per_s, "1/s"),
        "burst_cv": (trace.burst_cv, ""),
        "active_clients": (trace.active_clients, ""),
    }


def _describe(values: F64, unit: str) -> dict[str, Any] | None:
    """Spread of the measured values; None where there is none."""
    measured = values[~np.isnan(values)]
    if not len(measured):
        return None
    low, median, p95, high = np.quantile(measured, [0.0, 0.5, 0.95, 1.0])
    numbers = {"min": low, "median": median, "p95": p95, "max": high}
    return (
        {"unit": unit} | {k: float(v) for k, v in numbers.items()} | {"empty": float(np.isnan(values).mean())}
    )
