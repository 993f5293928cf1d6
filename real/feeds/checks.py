"""Checks that every number passes before it becomes a reading."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ...envs.traces.columns import instant
from ...envs.traces.grid_csv import IMPOSSIBLE_G_PER_KWH, WHY_IMPOSSIBLE
from .reading import Cause, FeedError

LEAST_G_PER_KWH = 1.0  # below it the unit is more likely kg/kWh than g/kWh (assumed)
FUTURE_S = 300.0  # a reading may start this much after the source's now: rounding to its interval (assumed)
LATER = "The last good reading is kept meanwhile; if this stays, see the source's status page"


@dataclass(frozen=True)
class Answer:
    """An answer being checked: which feed gave it for which zone.

    Attributes:
        source: name of the feed.
        zone: zone that was asked for.
        zero_is_real: values below 1 g/kWh are accepted for this zone.
        hide: takes secrets out of a text, in case the source sends them back.
    """

    source: str
    zone: str
    zero_is_real: bool = False
    hide: Callable[[str], str] = str

    def error(self, cause: Cause, said: str, mend: str = LATER) -> FeedError:
        """A failure of this answer."""
        return FeedError(self.source, self.zone, cause, self.hide(said), mend)

    def shown(self, value: Any) -> str:
        """A value as it came, without secrets and short enough for a message."""
        return shown(value, self.hide)

    def field(self, holder: Any, key: str, kind: type | tuple[type, ...], path: str = "") -> Any:
        """A field of a JSON object, of the type that it must have."""
        if not isinstance(holder, dict):
            raise self.error(
                "malformed", f"expected an object {path or 'as answer'}, got {self.shown(holder)}"
            )
        if key not in holder:
            raise self.error(
                "malformed", f"expected a field '{path}{key}', the answer has {self.shown(list(holder))}"
            )
        value = holder[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error("malformed", f"expected another type in '{path}{key}', got {self.shown(value)}")
        return value

    def carbon(self, value: Any, what: str) -> float:
        """A carbon intensity in g/kWh that can be true.

        Raises:
            FeedError: it is absent, no number, negative, zero (unless that is real) or absurd.
        """
        least = 0.0 if self.zero_is_real else LEAST_G_PER_KWH
        expected = (
            f"expected {what} in g/kWh from {least:g} to {IMPOSSIBLE_G_PER_KWH:g}, got {self.shown(value)}"
        )
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error("invalid-value", expected)
        # An integer of any size compares exactly; float() of a huge one would overflow.
        if not -IMPOSSIBLE_G_PER_KWH <= value <= IMPOSSIBLE_G_PER_KWH:
            why = f". {WHY_IMPOSSIBLE}".rstrip("?.") if value > 0 and not math.isinf(value) else ""
            raise self.error("invalid-value", f"{expected}{why}")
        if value < 0 or math.isnan(value):
            raise self.error("invalid-value", expected)
        if value < LEAST_G_PER_KWH and not self.zero_is_real:
            mend = "A broken feed often sends this. Where it is true (curtailed wind), set zero_is_real"
            raise self.error("invalid-value", expected, mend)
        return float(value)

    def moment(self, value: Any, what: str) -> datetime:
        """An instant in UTC."""
        try:
            return datetime.fromtimestamp(instant(value), timezone.utc)
        except (ValueError, TypeError, AttributeError, OverflowError, OSError):
            said = f"expected {what} as an ISO 8601 time, got {self.shown(value)}"
            raise self.error("malformed", said) from None

    def age_s(self, measured_at: datetime, now: datetime, stale_after_s: float) -> float:
        """Age of a reading that is neither stale nor from the future, s."""
        age_s = (now - measured_at) / timedelta(seconds=1)
        if age_s < -FUTURE_S:
            said = f"the reading is for {measured_at:%Y-%m-%dT%H:%M:%SZ}, {-age_s:.0f} s after now"
            raise self.error("invalid-value", said, "Check the clock of this machine (timedatectl)")
        if age_s > stale_after_s:
            said = f"the newest reading is of {measured_at:%Y-%m-%dT%H:%M:%SZ}, {age_s / 3600:.1f} h old"
            raise self.error("stale", f"{said}; at most {stale_after_s / 3600:.1f} h are accepted")
        return max(0.0, age_s)

    def same_zone(self, got: Any, expected: Any) -> None:
        """Refuse the answer for another zone."""
        if got != expected:
            said = f"asked for {self.shown(expected)}, the answer is for {self.shown(got)}"
            raise self.error(
                "wrong-zone", said, "Check the zone's spelling against the source's list of zones"
            )


def shown(value: Any, hide: Callable[[str], str] = str) -> str:
    """A value as it came, short enough for a message."""
    try:
        text = hide(repr(value))
    except ValueError:  # an integer with more digits than Python is willing to print
        return "a number with thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
