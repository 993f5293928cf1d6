"""Share of lost segments, from how many had to be sent again, over minutes: one probe alone says next to nothing."""

from __future__ import annotations

from collections import deque

from ...envs.errors import InputError


class LossWindow:
    """Segments sent and sent again within the last ``window_s`` seconds.

    Spurious retransmissions count as losses, and only the way to the server is seen. At a loss of 0.2 % a
    thousand segments hold two events, so feed it the segments of real transfers as well where they are known.
    """

    def __init__(self, window_s: float = 120.0) -> None:
        """Start empty."""
        if not window_s > 0:
            raise InputError(f"the window of the loss estimate must be longer than 0 s, got {window_s}")
        self._window_s = window_s
        self._entries: deque[tuple[float, int, int]] = deque()
        self._sent = self._again = 0

    def add(self, now_s: float, sent: int, again: int) -> None:
        """Count ``sent`` segments, ``again`` of them retransmissions."""
        self._entries.append((now_s, sent, again))
        self._sent, self._again = self._sent + sent, self._again + again

    def share(self, now_s: float) -> float | None:
        """Share of lost segments (0 to 1); None if none were sent."""
        while self._entries and self._entries[0][0] < now_s - self._window_s:
            _, sent, again = self._entries.popleft()
            self._sent, self._again = self._sent - sent, self._again - again
        return min(self._again / self._sent, 1.0) if self._sent > 0 else None
