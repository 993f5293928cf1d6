"""How often a source may be asked: never more than allowed, and not at all while it said to wait."""

from __future__ import annotations

from collections import deque

from ..clock import Clock


class RateLimit:
    """At most ``requests`` in any ``window_s`` seconds of the monotonic clock."""

    def __init__(self, requests: int, window_s: float, clock: Clock) -> None:
        """Start with nothing asked."""
        self.requests, self.window_s, self._clock = requests, window_s, clock
        self._asked: deque[float] = deque()
        self._closed_until_s = float("-inf")

    def wait_s(self) -> float:
        """Seconds until the next request is allowed; 0 means now."""
        now = self._clock.monotonic_s()
        while self._asked and now - self._asked[0] >= self.window_s:
            self._asked.popleft()
        full = len(self._asked) >= self.requests
        return max(0.0, self._closed_until_s - now, self._asked[0] + self.window_s - now if full else 0.0)

    def count(self) -> None:
        """Note that a request goes out now."""
        self._asked.append(self._clock.monotonic_s())

    def close_for(self, seconds: float) -> None:
        """Ask nothing for this long: the source said so."""
        self._closed_until_s = max(self._closed_until_s, self._clock.monotonic_s() + seconds)
