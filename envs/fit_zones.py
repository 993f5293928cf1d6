"""Fit the grid regions to hourly recordings: mean by season, hour and weekend, then the residual."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import TraceError
from .fit_samples import F64, read_columns
from .fit_statistics import acf, fit_two_memories, normal_scores, quantiles
from .generate_zones import FIRST_MONDAY_DAY
from .score_tables import quantile_table
from .units import HOURS_PER_YEAR

ACF_LAGS_H = (1, 6, 24, 168)
MEMORY_LAGS_H = (1, 2, 3, 6, 12, 24, 48, 72, 168)
EIA_FITTED_HOURS = 6400  # the EIA files hold one year: its last hours are the check
SHRINKAGE = 20.0  # hours' worth of pull of the seasonal factors towards zero, for the year not seen in full
_MAPS = "Electricity Maps, electricitymaps.com, ODbL 1.0 (only numbers fitted to it are here)"
_EIA = "U.S. Energy Information Administration by way of HewlettPackard/dc-rl, MIT"


@dataclass(frozen=True)
class RegionSource:
    """The recording of a region: the first hours are fitted, the rest checks."""

    file: str
    credit: str
    fitted_hours: int


def _maps(name: str) -> RegionSource:
    return RegionSource(f"grid/{name}_2022-2023.csv", _MAPS, HOURS_PER_YEAR)


def _eia(name: str) -> RegionSource:
    return RegionSource(f"grid/US-EIA-{name}_2022.csv", _EIA, EIA_FITTED_HOURS)


ZONE_SOURCES = {
    "us-bpat": _eia("BPAT"),
    "us-miso": _eia("MISO"),
    "us-soco": _eia("SOCO"),
    "gb": _maps("GB"),
    "de": _maps("DE"),
    "us-cal-ciso": _maps("US-CAL-CISO"),
    "au-nsw": _maps("AU-NSW"),
    "br-cs": _maps("BR-CS"),
    "ca-on": _maps("CA-ON"),
    "sg": _maps("SG"),
    "za": _maps("ZA"),
}


def zone_hours(name: str, folder: Path) -> tuple[F64, F64]:
    """The fitted hours and the hours that check, g/kWh; both begin at an hour of day 0 UTC or follow on.

    Raises:
        TraceError: the file is too short, or has an empty or negative cell.
    """
    source = ZONE_SOURCES[name]
    values = read_columns(folder / source.file, ("carbon_g_per_kwh",))["carbon_g_per_kwh"]
    bad = np.flatnonzero(~(values > 0.0))
    if bad.size:
        raise TraceError(
            f"{folder / source.file}, line {bad[0] + 2}, column carbon_g_per_kwh: expected a number above 0, "
            f"got {values[bad[0]]:g}."
        )
    if values.size <= source.fitted_hours:
        raise TraceError(
            f"{folder / source.file}: expected more than {source.fitted_hours} hours, got {values.size}."
        )
    return values[: source.fitted_hours], values[source.fitted_hours :]


def fit_region(name: str, folder: Path) -> dict[str, Any]:
    """Fit one region; the result has the keys of `ZoneParameters`."""
    values, _ = zone_hours(name, folder)
    full_year = values.size == HOURS_PER_YEAR
    design = _design(values.size, half_year=full_year)
    weights = _ridge(design, values)
    residual = values - design @ weights
    memory = acf(normal_scores(residual), np.zeros(residual.size), MEMORY_LAGS_H)
    share, slow, fast = fit_two_memories(memory)
    half = weights[73:75] if full_year else np.zeros(2)
    return {
        "schema": "carbonpilot/zone-region/1",
        "name": name,
        "mean_g_per_kwh": _rounded(weights[:24]),
        "season_cos_g_per_kwh": _rounded(weights[24:48]),
        "season_sin_g_per_kwh": _rounded(weights[48:72]),
        "half_year_cos_g_per_kwh": round(float(half[0]), 3),
        "half_year_sin_g_per_kwh": round(float(half[1]), 3),
        "weekend_shift_g_per_kwh": round(float(weights[72]), 3),
        "residual_g_per_kwh": _rounded(quantile_table(residual)),
        "slow_share": round(share, 5),
        "slow_correlation_per_h": round(slow, 6),
        "fast_correlation_per_h": round(fast, 6),
        "lowest_g_per_kwh": float(values.min()),
        "highest_g_per_kwh": float(values.max()),
        "observed": {"file": ZONE_SOURCES[name].file, "hours": int(values.size), **describe_hours(values)},
    }


def describe_hours(values: F64) -> dict[str, float]:
    """What hours, recorded or generated, look like (keys of `ObservedZone`); (H,) or (H, B)."""
    columns = values.reshape(len(values), -1).astype(np.float64)
    piece = np.repeat(np.arange(columns.shape[1]), len(columns))
    memory = acf(columns.T.ravel(), piece, ACF_LAGS_H)
    return {
        **{f"p{q}_g_per_kwh": round(v, 2) for q, v in quantiles(columns).items()},
        **{f"acf_{lag}h": round(v, 4) for lag, v in memory.items() if v is not None},
    }


def _design(hours: int, half_year: bool) -> F64:
    """Regressors (hours, 73 or 75): hour, hour x season's cosine, hour x its sine, weekend, half-year."""
    hour = np.arange(hours)
    angle = 2.0 * np.pi * hour / HOURS_PER_YEAR
    by_hour = np.eye(24)[hour % 24]
    weekend = (hour // 24 % 7 < FIRST_MONDAY_DAY).astype(np.float64)[:, None]
    columns = [by_hour, by_hour * np.cos(angle)[:, None], by_hour * np.sin(angle)[:, None], weekend]
    if half_year:
        columns += [np.cos(2 * angle)[:, None], np.sin(2 * angle)[:, None]]
    return np.hstack(columns)


def _ridge(design: F64, values: F64) -> F64:
    """Least squares around the mean, with a pull towards zero on all but the 24-hour profile."""
    pull = np.full(design.shape[1], SHRINKAGE)
    pull[:24] = 1e-6
    centre = values.mean()
    weights = np.linalg.solve(design.T @ design + np.diag(pull), design.T @ (values - centre))
    weights[:24] += centre
    return weights


def _rounded(values: F64) -> list[float]:
    return [round(float(v), 3) for v in values]
