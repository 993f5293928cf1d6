"""What the feeds over HTTP share: a source, checks, and how a checked number becomes a reading."""

from __future__ import annotations

from datetime import datetime

from ...envs.errors import InputError
from ...envs.traces.records import Factors
from ..clock import Clock, SystemClock
from .checks import Answer
from .http_source import HttpSource, Patience
from .rate_limit import RateLimit
from .reading import Kind, Reading


class HttpFeed:
    """Base of the feeds over HTTP; a subclass knows its source's addresses and forms."""

    name: str
    kind: Kind = "average"
    offline = False
    stale_after_s: float
    default_url: str
    requests_per_window: tuple[int, float]
    refused_mend: str

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        base_url: str | None = None,
        patience: Patience | None = None,
        stale_after_s: float | None = None,
        zero_is_real: bool = False,
    ) -> None:
        """Set up the feed; nothing is sent yet.

        Args:
            clock: time for ages and limits.
            base_url: another address, such as the mock server's; https, or http on loopback.
            patience: waits and tries.
            stale_after_s: age from which an answer is refused, s.
            zero_is_real: accept values below 1 g/kWh.

        Raises:
            InputError: a secret is missing, or the address or an age cannot be.
            MissingExtraError: httpx is not installed.
        """
        if stale_after_s is not None and not stale_after_s > 0:
            raise InputError(f"{self.name}: stale_after_s must be above 0, got {stale_after_s}.")
        self.stale_after_s = stale_after_s or type(self).stale_after_s
        self.clock: Clock = clock or SystemClock()
        self.zero_is_real = zero_is_real
        limit = RateLimit(*self.requests_per_window, self.clock)
        url = (base_url or self.default_url).rstrip("/")
        self.source = HttpSource(self.name, url, self.clock, limit, self.refused_mend, patience or Patience())

    def fetch(self, zone: str) -> Reading:
        """Ask the source; see its class."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Cut short what waits in `fetch`; may be called from another thread."""
        self.source.cancel()

    def close(self) -> None:
        """Give back connections."""
        self.source.close()

    def _answer(self, zone: str) -> Answer:
        return Answer(self.name, zone, self.zero_is_real, self.source.redacted)

    def _reading(
        self,
        answer: Answer,
        carbon_g_per_kwh: float,
        measured_at: datetime,
        now: datetime,
        estimated: bool,
        factors: Factors = "not stated",
        note: str = "",
    ) -> Reading:
        return Reading(
            zone=answer.zone,
            carbon_g_per_kwh=carbon_g_per_kwh,
            kind=self.kind,
            measured_at=measured_at,
            received_monotonic_s=self.clock.monotonic_s(),
            received_at=self.clock.utc(),
            age_when_received_s=answer.age_s(measured_at, now, self.stale_after_s),
            estimated=estimated,
            source=self.name,
            factors=factors,
            note=note,
        )
