"""What a feed says about a grid at one moment, and what it says when it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from ...envs.errors import CarbonPilotError
from ...envs.traces.records import Factors

# Average attributes all emissions to all use; marginal is what one more kWh causes. Never add or mix the two.
Kind = Literal["average", "marginal"]

Cause = Literal[
    "unreachable",
    "timeout",
    "refused",
    "rate-limited",
    "server-error",
    "malformed",
    "invalid-value",
    "wrong-zone",
    "stale",
    "not-covered",
    "no-reading",
    "internal",
]


class FeedError(CarbonPilotError):
    """A feed has no number that could be believed.

    Attributes:
        source: name of the feed.
        zone: zone that was asked for.
        cause: what kind of failure, for counters.
        said: what was expected and what came.
        mend: what to do about it.
        retry_after_s: how long the source wants to be left alone, or None.
    """

    def __init__(
        self, source: str, zone: str, cause: Cause, said: str, mend: str, retry_after_s: float | None = None
    ) -> None:
        """Name the feed, the zone, what came and the mend; no argument may hold a secret."""
        super().__init__(f"{source}, zone {zone}: {said}. {mend}.")
        self.source, self.zone, self.cause, self.said, self.mend = source, zone, cause, said, mend
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Reading:
    """Carbon intensity of one zone at one moment.

    Attributes:
        zone: as asked for.
        carbon_g_per_kwh: g CO2 (or CO2 equivalent, see ``factors``) per kWh.
        kind: average or marginal.
        measured_at: start of the interval it holds for, UTC (for a yearly average the year's end).
        received_monotonic_s: when it came, on the clock that never jumps.
        received_at: when it came, on the calendar clock.
        age_when_received_s: how old it was then by the source's own clock, s.
        estimated: not measured: a forecast, a model's value or a long-term average.
        source: name of the feed.
        factors: emission factors behind it; life-cycle and direct must not meet in one sum.
        note: what a reader should know besides, or "".
        restored: it comes from the cache of an earlier process.
    """

    zone: str
    carbon_g_per_kwh: float
    kind: Kind
    measured_at: datetime
    received_monotonic_s: float
    received_at: datetime
    age_when_received_s: float
    estimated: bool
    source: str
    factors: Factors = "not stated"
    note: str = ""
    restored: bool = False

    def age_s(self, monotonic_s: float) -> float:
        """Age at a moment of the monotonic clock, s; setting the calendar clock does not change it."""
        return self.age_when_received_s + max(0.0, monotonic_s - self.received_monotonic_s)


class Feed(Protocol):
    """A source of carbon intensity.

    Attributes:
        name: its name in records and counters.
        kind: what all of its readings are.
        offline: it needs neither network nor waiting.
        stale_after_s: age from which a reading says nothing about now, s.
    """

    name: str
    kind: Kind
    offline: bool
    stale_after_s: float

    def fetch(self, zone: str) -> Reading:
        """Ask for the newest reading; may take seconds.

        Raises:
            FeedError: there is none that could be believed.
        """
        ...

    def cancel(self) -> None:
        """Cut short what waits in `fetch`; may be called from another thread."""
        ...

    def close(self) -> None:
        """Give back connections; the feed cannot be used after that."""
        ...
