"""Time as the runtime's parts see it: one that never jumps for ages and deadlines, one of the calendar for records."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Protocol


class Clock(Protocol):
    """Both times; ages and deadlines use `monotonic_s` only, because a calendar clock may be set back."""

    def monotonic_s(self) -> float:
        """Seconds since some moment, never running backwards."""
        ...

    def utc(self) -> datetime:
        """Now, with its time zone."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        """Seconds since some moment, never running backwards."""
        return time.monotonic()

    def utc(self) -> datetime:
        """Now, with its time zone."""
        return datetime.now(timezone.utc)


class ManualClock:
    """A clock that only moves when it is told to, for tests and for replaying logs."""

    def __init__(self, start: datetime, monotonic_s: float = 0.0) -> None:
        """Stand at ``start``, which must have a time zone."""
        if start.tzinfo is None:
            raise ValueError("ManualClock needs a start with a time zone, for example tzinfo=timezone.utc")
        self._utc, self._monotonic_s = start, monotonic_s

    def monotonic_s(self) -> float:
        """Seconds since some moment, never running backwards."""
        return self._monotonic_s

    def utc(self) -> datetime:
        """Now, with its time zone."""
        return self._utc

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        if seconds < 0:
            raise ValueError(
                f"time passes forward only, got {seconds} s; set_utc moves the calendar clock back"
            )
        self._monotonic_s += seconds
        self._utc += timedelta(seconds=seconds)

    def set_utc(self, now: datetime) -> None:
        """Set the calendar clock, as a time server or a person would; ages must not notice."""
        self._utc = now
