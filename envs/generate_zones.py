"""Grid carbon intensity without files: season, day and weekend, and a residual with two memories.

The mean of an hour is a 24-hour profile that swings with the season (one annual harmonic per hour of the
day, one half-yearly harmonic for all) plus a shift at weekends; the residual is read from its measured
quantiles by a score that is the sum of a slow and a fast AR(1) (weather of days, and of hours).
``configs/zones`` holds the regions, ``docs/generators.md`` how well they fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from .errors import unknown_name
from .schema import Fraction, Positive, Strict
from .score_tables import read_table, smoothed_paths
from .streams import Stream
from .strict_yaml import parse_yaml
from .units import HOURS_PER_YEAR
from .validation import validated
from .world_types import F32

Hourly = Annotated[list[float], Field(min_length=24, max_length=24)]  # hours 0 ... 23 UTC
Correlation = Annotated[float, Field(ge=0, lt=1)]
FIRST_MONDAY_DAY = 2  # the fitted year 2022 began on a Saturday: days 0, 1 of every seven are a weekend


class ObservedZone(Strict):
    """What the recording says of the fitted hours, for comparison; the generator does not read it."""

    file: str
    hours: int
    p5_g_per_kwh: Positive
    p25_g_per_kwh: Positive
    p50_g_per_kwh: Positive
    p75_g_per_kwh: Positive
    p95_g_per_kwh: Positive
    p99_g_per_kwh: Positive
    acf_1h: float
    acf_6h: float
    acf_24h: float
    acf_168h: float


class ZoneParameters(Strict):
    """One region. Season angle: 2 pi x hour of the year / 8760."""

    schema_version: Annotated[Literal["carbonpilot/zone-region/1"], Field(alias="schema")]
    name: str
    mean_g_per_kwh: Hourly
    season_cos_g_per_kwh: Hourly
    season_sin_g_per_kwh: Hourly
    half_year_cos_g_per_kwh: float
    half_year_sin_g_per_kwh: float
    weekend_shift_g_per_kwh: float
    residual_g_per_kwh: Annotated[list[float], Field(min_length=25, max_length=25)]  # at scores -3 ... 3
    slow_share: Fraction  # of the score's variance
    slow_correlation_per_h: Correlation
    fast_correlation_per_h: Correlation
    lowest_g_per_kwh: Positive
    highest_g_per_kwh: Positive
    observed: ObservedZone


def zone_regions() -> list[str]:
    """Names of the shipped regions."""
    folder = resources.files("carbonpilot.configs").joinpath("zones")
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


@lru_cache(maxsize=64)
def load_zone_region(name: str) -> ZoneParameters:
    """Load a shipped region.

    Raises:
        InputError: no such region; the nearest name is offered.
        ScenarioError: the file does not follow the schema.
    """
    if name not in zone_regions():
        raise unknown_name("zone region", name, zone_regions())
    file = resources.files("carbonpilot.configs").joinpath("zones").joinpath(f"{name}.yaml")
    return validated(ZoneParameters, parse_yaml(file.read_text(encoding="utf-8"), file.name), file.name)


@dataclass(frozen=True)
class ZoneBank:
    """Parameters of R regions as float32 arrays."""

    profile: F32  # (3, R * 24): mean, and the factors of the season's cosine and sine
    half_year: F32  # (2, R)
    weekend: F32  # (R,)
    residual: F32  # flat, 25 values a region
    slow_share: F32  # (R,)
    correlation: F32  # (2, R): slow, fast
    lowest: F32  # (R,)
    highest: F32  # (R,)


def zone_bank(parameters: tuple[ZoneParameters, ...]) -> ZoneBank:
    """Stack the regions' parameters for vectorised look-up."""

    def columns(*keys: str) -> F32:
        return np.array([[getattr(p, key) for p in parameters] for key in keys], dtype=np.float32)

    profile = columns("mean_g_per_kwh", "season_cos_g_per_kwh", "season_sin_g_per_kwh")
    return ZoneBank(
        profile=profile.reshape(3, -1),
        half_year=columns("half_year_cos_g_per_kwh", "half_year_sin_g_per_kwh"),
        weekend=columns("weekend_shift_g_per_kwh")[0],
        residual=columns("residual_g_per_kwh").ravel(),
        slow_share=columns("slow_share")[0],
        correlation=columns("slow_correlation_per_h", "fast_correlation_per_h"),
        lowest=columns("lowest_g_per_kwh")[0],
        highest=columns("highest_g_per_kwh")[0],
    )


@lru_cache(maxsize=64)
def _shipped_bank(names: tuple[str, ...]) -> ZoneBank:
    return zone_bank(tuple(load_zone_region(name) for name in names))


def generate_zone(
    regions: list[str], stream: Stream, start_hour_of_year: npt.NDArray[np.int64], hours: int
) -> tuple[F32, npt.NDArray[np.int64]]:
    """Draw the carbon intensity of one zone for a batch of episodes.

    Args:
        regions: names of shipped regions; each episode draws one, all equally likely.
        stream: random stream of this zone.
        start_hour_of_year: hour of the first row (B,), 0 = 1 January 00:00 UTC; may pass the year's end.
        hours: rows H.

    Returns:
        g CO2-equivalent per kWh (H, B) float32, and the index of each episode's region (B,).
    """
    return draw_from_bank(_shipped_bank(tuple(regions)), stream, start_hour_of_year, hours)


def draw_from_bank(
    bank: ZoneBank, stream: Stream, start_hour_of_year: npt.NDArray[np.int64], hours: int
) -> tuple[F32, npt.NDArray[np.int64]]:
    """Draw from given parameters, as `generate_zone` does from shipped ones."""
    region = stream.integers(bank.weekend.size)
    start = stream.normal(2, 2)  # (2, 2, B): before the first row; slow, fast
    pushes = stream.normal(hours, 2)  # (H, 2, B)
    correlation = np.ascontiguousarray(bank.correlation[:, region])
    paths = smoothed_paths(pushes, start, correlation, np.zeros_like(correlation))
    share = bank.slow_share[region]
    score = paths[:, 0] * np.sqrt(share) + paths[:, 1] * np.sqrt(np.float32(1.0) - share)
    expected = expected_g_per_kwh(bank, region, start_hour_of_year, hours)
    truth = expected + read_table(bank.residual, region, score)
    return np.clip(truth, bank.lowest[region], bank.highest[region]), region


def expected_g_per_kwh(
    bank: ZoneBank, region: npt.NDArray[np.int64], start_hour_of_year: npt.NDArray[np.int64], hours: int
) -> F32:
    """Mean of season, hour of the day and weekend (H, B), g/kWh."""
    hour = np.asarray(start_hour_of_year, dtype=np.int64)[None, :] + np.arange(hours)[:, None]
    angle = hour.astype(np.float64) * (2.0 * np.pi / HOURS_PER_YEAR)
    one, two = angle.astype(np.float32), (2.0 * angle).astype(np.float32)
    cell = region * 24 + hour % 24
    mean, cosine, sine = (part.take(cell) for part in bank.profile)
    weekend = (hour // 24 % 7 < FIRST_MONDAY_DAY).astype(np.float32)
    daily = mean + cosine * np.cos(one) + sine * np.sin(one) + weekend * bank.weekend[region]
    return daily + bank.half_year[0, region] * np.cos(two) + bank.half_year[1, region] * np.sin(two)


def forecast(
    bank: ZoneBank,
    region: npt.NDArray[np.int64],
    start_hour_of_year: npt.NDArray[np.int64],
    now_g_per_kwh: F32,
    hours: int,
) -> F32:
    """Damped persistence (H, B): the mean, plus what is left of today's departure from it h hours on.

    It knows only what is measured at the first row, so its error grows with the lead time as the region's
    own autocorrelation falls. That real day-ahead forecasts do no better is assumed; most do.
    """
    expected = expected_g_per_kwh(bank, region, start_hour_of_year, hours)
    lead = np.arange(hours, dtype=np.float32)[:, None]
    slow, fast = (bank.correlation[i, region][None, :] ** lead for i in (0, 1))
    share = bank.slow_share[region]
    left = share * slow + (np.float32(1.0) - share) * fast
    shown = expected + left * (now_g_per_kwh - expected[0])
    return np.clip(shown, bank.lowest[region], bank.highest[region])
