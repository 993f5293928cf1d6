"""Yearly averages of countries: what is left where there is no network and no recording."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ..clock import Clock, SystemClock
from .checks import Answer
from .country_table import AVERAGES, SOURCE
from .reading import Kind, Reading

YEAR = timedelta(days=365.2425)


class CountryDefault:
    """Answers for a country (``GB``, ``GBR``), or for a zone within it (``US-CAL-CISO``) with its country's average.

    Always flagged estimated; ``measured_at`` is the year's end, so that the age is told in full. It never
    becomes stale, because it never pretends to be of now.
    """

    name = "country-default"
    kind: Kind = "average"
    offline = True
    stale_after_s = float("inf")

    def __init__(self, clock: Clock | None = None) -> None:
        """Nothing is read but the table."""
        self.clock: Clock = clock or SystemClock()

    def fetch(self, zone: str) -> Reading:
        """The average of the zone's country."""
        answer = Answer(self.name, zone)
        code = zone.split("-")[0]
        row = next((row for row in AVERAGES if code in row[:2]), None)
        if row is None:
            said = f"no country {answer.shown(code)} among the {len(AVERAGES)} of this table"
            raise answer.error(
                "not-covered",
                said,
                "Name a zone that starts with a country's ISO code, e.g. GB or US-CAL-CISO",
            )
        iso2, _, country, carbon_g_per_kwh, year = row
        now, ended = self.clock.utc(), datetime(year + 1, 1, 1, tzinfo=timezone.utc)
        age = max(timedelta(0), now - ended)
        whole = "" if zone in row[:2] else f", not of the zone {zone} alone"
        return Reading(
            zone=zone,
            carbon_g_per_kwh=carbon_g_per_kwh,
            kind="average",
            measured_at=ended,
            received_monotonic_s=self.clock.monotonic_s(),
            received_at=now,
            age_when_received_s=age.total_seconds(),
            estimated=True,
            source=self.name,
            note=f"average of {country} ({iso2}) in {year}{whole}; {age / YEAR:.1f} years old; from {SOURCE}",
        )

    def cancel(self) -> None:
        """Nothing here waits."""

    def close(self) -> None:
        """Nothing is held open."""
