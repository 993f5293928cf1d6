"""A circuit breaker: a node that fails several times in a row rests, then gets one request to show that it is back.

Own, because the published ones bring what is of no use here and cost what is: pybreaker and purgatory wrap calls and
raise, count by wall clock or keep their state in a store; a shield asks before the call, from one thread, in
microseconds, on the clock that never jumps, and takes in results later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True)
class BreakerSettings:
    """When a breaker opens and how long it rests; all assumed.

    Attributes:
        failures: failures in a row that open it.
        rest_ms: how long it rests at first; doubled by every failed trial.
        longest_rest_ms: it never rests longer.
    """

    failures: int = 3
    rest_ms: float = 2000.0
    longest_rest_ms: float = 30_000.0


class Breaker:
    """The state of one node.

    closed: requests go through; ``failures`` in a row open it.
    open: no request goes through until it has rested.
    half-open: it has rested; one request at a time goes through. An answer closes it, a failure opens it again for
    twice as long. A trial of which nothing is heard for a rest counts as failed.

    Attributes:
        failures: failures in a row so far.
        opened: how often it opened.
    """

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        """Closed."""
        self._settings = settings or BreakerSettings()
        self._rest_ms = self._settings.rest_ms
        self._open_until_ms: float | None = None  # None: closed
        self._trial_ms: float | None = None  # when the trial began
        self.failures = self.opened = 0

    @property
    def closed(self) -> bool:
        """Whether requests go through freely."""
        return self._open_until_ms is None

    def state(self, now_ms: float) -> State:
        """As of now."""
        if self._open_until_ms is None:
            return "closed"
        return "open" if now_ms < self._open_until_ms else "half-open"

    def allows(self, now_ms: float) -> bool:
        """Whether a request may go through now."""
        if self._open_until_ms is None:
            return True
        if self._trial_ms is not None and now_ms - self._trial_ms >= self._rest_ms:
            self._open(now_ms)  # nothing was heard of the trial
        return now_ms >= self._open_until_ms and self._trial_ms is None

    def began(self, now_ms: float) -> None:
        """A request went through."""
        if self._open_until_ms is not None:
            self._trial_ms = now_ms

    def unused(self) -> None:
        """A request that went through never came to the node: if it was a trial, the next one is."""
        self._trial_ms = None

    def succeeded(self) -> None:
        """A request was answered, also if it had begun before the breaker opened."""
        self._open_until_ms = self._trial_ms = None
        self.failures, self._rest_ms = 0, self._settings.rest_ms

    def failed(self, now_ms: float) -> None:
        """A request failed. Of those that began before it opened, an open breaker learns nothing."""
        self.failures += 1
        if self._open_until_ms is None:
            if self.failures >= self._settings.failures:
                self._open(now_ms)
        elif self._trial_ms is not None:
            self._open(now_ms)

    def _open(self, now_ms: float) -> None:
        if self._open_until_ms is not None:  # a trial failed
            self._rest_ms = min(2.0 * self._rest_ms, self._settings.longest_rest_ms)
        self._open_until_ms, self._trial_ms = now_ms + self._rest_ms, None
        self.opened += 1
