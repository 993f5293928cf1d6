"""The world of a run second by second: links, loads and grids as they were measured, on the grid of a tape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.units import MS_PER_S
from ..log_records import WorldRecord

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


START_S = 3  # seconds without an answer at the start of a run that are no outage


@dataclass(frozen=True)
class LinkSeries:
    """A link by second (S,).

    Attributes:
        rtt_ms: the probe's own answer; where there was none the one before (the next one at the beginning).
        blocked: the probe was not answered.
        loss, rate_mbps: smoothed, as the run saw them; NaN where unknown.
    """

    rtt_ms: F64
    blocked: Flags
    loss: F64
    rate_mbps: F64


@dataclass(frozen=True)
class World:
    """What was measured, by second (S,).

    Attributes:
        start_ms: time of the first second's beginning, on the run's clock.
        links, loads, zones: by name; load (share of capacity) and intensity (g/kWh) are NaN where unknown.
        unmeasured_s: seconds without a record of their own.
    """

    start_ms: float
    links: dict[str, LinkSeries]
    loads: dict[str, F64]
    zones: dict[str, F64]
    unmeasured_s: int

    @property
    def seconds(self) -> int:
        """S."""
        return len(next(iter(self.zones.values())))


def world_between(records: list[WorldRecord], start_ms: float, end_ms: float, where: str) -> World:
    """Lay the records on a grid of seconds; a second without a record takes the one before it.

    A record at the end of a second tells of that second.

    Raises:
        InputError: no record lies near this time.
    """
    seconds = max(1, int(np.ceil((end_ms - start_ms) / MS_PER_S)))
    if not records:
        raise InputError(
            f"{where}: the log holds no 'world' line, so links and loads of that run are unknown."
        )
    times = np.array([r.time_ms for r in records])
    ends = start_ms + MS_PER_S * (np.arange(seconds) + 1.0)
    # The last record within the second or before it; at the very beginning the first one there is.
    index = np.maximum(np.searchsorted(times, ends, side="right") - 1, 0)
    chosen = [records[i] for i in index]
    first = records[0]
    return World(
        start_ms,
        {name: _link(chosen, name, where) for name in first.links},
        {name: _filled([r.loads[name].load for r in chosen]) for name in first.loads},
        {name: _filled([r.zones[name].carbon_g_per_kwh for r in chosen]) for name in first.zones},
        int((times[index] <= ends - MS_PER_S).sum()),
    )


def _link(records: list[WorldRecord], name: str, where: str) -> LinkSeries:
    links = [r.links[name] for r in records]
    blocked = np.array([not k.answered for k in links])
    # At the start of a run no probe has come back yet; that says nothing about the link.
    known = [k.rtt_last_ms is not None for k in links]
    first = known.index(True) if True in known else len(known)
    if first <= START_S:
        blocked[:first] = False
    rtt = np.array([np.nan if k.rtt_last_ms is None or not k.answered else k.rtt_last_ms for k in links])
    if np.isnan(rtt).all():
        raise InputError(
            f"{where}: no probe of link '{name}' was answered in this run, so its round-trip time is unknown. "
            "Is the echo server there running? `carbonpilot doctor --site SITE` tells."
        )
    return LinkSeries(
        _carried(rtt),
        blocked,
        _filled([None if k.loss_pct is None else k.loss_pct / 100 for k in links]),
        _filled([k.uplink_mbps for k in links]),
    )


def _filled(values: list[float | None]) -> F64:
    """Gaps take the value before them (at the beginning, the next); NaN where nothing is known at all."""
    return _carried(np.array([np.nan if v is None else v for v in values], dtype=np.float64))


def _carried(values: F64) -> F64:
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return values
    last = np.searchsorted(known, np.arange(values.size), side="right") - 1
    return values[known[np.maximum(last, 0)]]
