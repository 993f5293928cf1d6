"""Carbon intensity of each zone in an episode: what is true, and what the feed shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .compiling import compiled
from .link_sources import require_traces
from .schema import ConstantZone, GeneratedZone, SameZone, Scenario, TraceZone
from .shifts import grid_factors, longest_silence_h, silent_hours
from .streams import Stream
from .units import HOURS_PER_YEAR, SECONDS_PER_HOUR
from .world_types import F32

# Generated grids: the generators' year is cut in two, so that training and evaluation share no hour.
TRAINING_HOURS = 6400

if TYPE_CHECKING:
    from .traces.library import GridLibrary

ZoneRows = dict[str, tuple[F32, F32]]


def draw_zones(
    scenario: Scenario, keys: np.ndarray, rows: int, part: str, traces_dir: Path | None
) -> ZoneRows:
    """Draw every zone's intensity for a batch of episodes.

    Returns:
        zone -> (truth, feed), each (S, B) float32 g/kWh; the feed shows the value of ``feed_delay_h`` ago, a silent
        one what it showed when it fell silent.
    """
    row_s = 0.0 if scenario.world_clock == "request" else 1.0
    delay, silent = scenario.telemetry.feed_delay_h, silent_hours(scenario, keys)
    back = int(np.ceil(delay + longest_silence_h(scenario)))
    hours = int(np.ceil(rows * row_s / SECONDS_PER_HOUR)) + back + 2
    clock = Stream(keys, "hour")
    start_hour = _start_hour(clock, part)
    elapsed_h = (
        clock.uniform()[None, :] + back + np.arange(rows)[:, None] * np.float32(row_s / SECONDS_PER_HOUR)
    )
    asked_h = elapsed_h if silent is None else np.where(silent > 0, elapsed_h[0] - silent, elapsed_h)
    now, shown = elapsed_h.astype(np.int64), (asked_h - np.float32(delay)).astype(np.int64)
    factors = grid_factors(scenario, keys)
    out: ZoneRows = {}
    for name, zone in scenario.zones.items():
        if isinstance(zone, SameZone):
            continue
        if isinstance(zone, ConstantZone):
            flat = np.full((rows, keys.size), zone.carbon_g_per_kwh, dtype=np.float32)
            flat = flat * factors[name] if name in factors else flat
            out[name] = (flat, flat)
            continue
        hourly = _hourly(zone, Stream(keys, f"zone:{name}"), start_hour, hours, part, traces_dir)
        truth, feed = np.empty((rows, keys.size), np.float32), np.empty((rows, keys.size), np.float32)
        hourly = np.ascontiguousarray(hourly * factors[name] if name in factors else hourly, dtype=np.float32)
        pick_rows(hourly, now, truth)
        pick_rows(hourly, shown, feed)
        out[name] = (truth, feed)
    return {n: out[z.zone] if isinstance(z, SameZone) else out[n] for n, z in scenario.zones.items()}


@compiled
def pick_rows(table: F32, row: np.ndarray, out: F32) -> None:
    """Each episode's value in a row of its own: out[s, b] = table[row[s, b], b]."""
    for s in range(row.shape[0]):
        for b in range(row.shape[1]):
            out[s, b] = table[row[s, b], b]


def _start_hour(clock: Stream, part: str) -> np.ndarray:
    if part == "training":
        return clock.integers(TRAINING_HOURS)
    return TRAINING_HOURS + clock.integers(HOURS_PER_YEAR - TRAINING_HOURS - 100)


def _hourly(
    zone: GeneratedZone | TraceZone,
    stream: Stream,
    start_hour: np.ndarray,
    hours: int,
    part: str,
    traces_dir: Path | None,
) -> F32:
    if isinstance(zone, GeneratedZone):
        from .generate_zones import generate_zone

        return generate_zone(zone.regions, stream, start_hour, hours)[0]
    from .traces.library import GridLibrary

    span = {"before": zone.training_before} if part == "training" else {"from_": zone.evaluation_from}
    folder = require_traces(traces_dir)
    key = (str(folder.resolve()), tuple(zone.files), *sorted(span.items()))
    if key not in _GRIDS:
        _GRIDS[key] = GridLibrary.load(folder, zone.files, **span)
    return _GRIDS[key].draw(stream, hours, stream.keys.size, start_hour).truth_g_per_kwh


_GRIDS: dict[tuple, GridLibrary] = {}
