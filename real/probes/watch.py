"""Looks at transfers while they happen, in a thread of its own: nobody on the request path waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping

from ..clock import Clock
from .own_connections import OwnConnection, Progress, find_connection
from .transfer import FIRST_BYTES, Reading, Transfer, transfer

LEAST_BYTES = 10 * FIRST_BYTES  # below it a round trip is seen, and no rate
GIVE_UP_S = 3.0  # longer than any call takes; by then the kernel gives the connection up as well
# How often one looks: before the first acknowledgement after this share of the time that has passed, after it of the
# time since, within bounds; and once all is sent, not before this share of a round trip.
_SHARE, _ARRIVING_SHARE, _LEAST_S, _MOST_S, _ROUND_TRIP = 0.04, 0.15, 0.00025, 0.003, 0.6
SEARCH_S = 1.0  # between two searches for a connection that was not found

log = logging.getLogger(__name__)

Done = Callable[["Watched"], None]


class Watched:
    """A transfer that is looked at.

    Attributes:
        result: what it was, once it is over; None before, and where that cannot be told. Of a call that was given up it
            is about the part that had arrived.
        whole: all of it arrived.
        segments, again: sent in that time, and sent again for a reason, once it is over.
        alone: nothing else was sent over the connection meanwhile.
    """

    def __init__(
        self, node: str, connection: OwnConnection, before: Progress, sent_bytes: int, now_s: float
    ) -> None:
        """It begins now."""
        self.node, self.result, self.alone, self.whole = node, None, True, False
        self.segments = self.again = 0
        self.over = False
        self._connection, self._before, self._sent_bytes, self._began_s = (
            connection,
            before,
            sent_bytes,
            now_s,
        )
        self._readings = [Reading(now_s, -before.waiting_bytes, 0)]
        self._arriving_s: float | None = None
        self._call_over = False
        self.result: Transfer | None

    def call_over(self) -> None:
        """The call has ended, with an answer or without; from any thread."""
        self._call_over = True

    def look(self, clock: Clock) -> float | None:
        """Read once; returns how long to wait until the next look, None when it is over."""
        seen = self._connection.progress()
        now_s = clock.monotonic_s()
        if seen is None:
            self._end(None, 0)
            return None
        before = self._before
        acked = seen.acked_bytes - before.acked_bytes - before.waiting_bytes
        self._readings.append(Reading(now_s, acked, seen.segments - before.segments))
        if acked >= self._sent_bytes or self._call_over or now_s - self._began_s > GIVE_UP_S:
            self._end(seen, acked)
            return None
        return self._wait_s(now_s, acked, seen)

    def _wait_s(self, now_s: float, acked: int, seen: Progress) -> float:
        if acked >= FIRST_BYTES:
            self._arriving_s = self._arriving_s or now_s
            return min(max(_ARRIVING_SHARE * (now_s - self._arriving_s), _LEAST_S), _MOST_S)
        passed_s = now_s - self._began_s
        wait_s = min(max(_SHARE * passed_s, _LEAST_S), _MOST_S)
        if acked + seen.waiting_bytes >= self._sent_bytes:  # all is on its way
            wait_s = max(wait_s, _ROUND_TRIP * seen.rtt_s - passed_s)
        return wait_s

    def _end(self, seen: Progress | None, acked: int) -> None:
        if seen is not None:
            self.whole = acked >= self._sent_bytes
            before = self._before
            self.segments = seen.segments - before.segments
            self.again = max(seen.again - before.again - (seen.needless - before.needless), 0)
            arrived = min(acked, self._sent_bytes)
            if arrived >= LEAST_BYTES:
                self.result = transfer(self._readings, arrived, self.again)
        self._readings = []
        self.over = True


class TransferWatch:
    """Watches the connections that a library of this process has to some nodes; one transfer of each at a time.

    Args:
        addresses: ``HOST:PORT`` of the nodes, by name, as the library was given them.
        done: is told of each transfer that is over, in the thread of the watch.
        clock: stamps what is seen.
    """

    def __init__(self, addresses: Mapping[str, str], done: Done, clock: Clock) -> None:
        """Nothing runs yet."""
        self._addresses, self._done, self._clock = dict(addresses), done, clock
        self._connections: dict[str, OwnConnection] = {}
        self._under_way: dict[str, Watched] = {}
        self._search_s: dict[str, float] = {}  # not before
        self._asked: queue.SimpleQueue[Watched | str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find the connections that are there, and begin."""
        for node in self._addresses:
            self._asked.put(node)
        self._thread = threading.Thread(target=self._run, name="transfers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join(GIVE_UP_S + 5.0)

    def begin(self, node: str, sent_bytes: int) -> Watched | None:
        """A transfer is about to begin; from the thread of the requests, takes some microseconds.

        Args:
            node: where it goes.
            sent_bytes: payload.

        Returns:
            What will be known of it; None where it is not watched: it is too small, another one is under way, or the
            connection is new (the next one will be).
        """
        if sent_bytes < LEAST_BYTES or node not in self._addresses:
            return None
        other = self._under_way.get(node)
        if other is not None and not other.over:
            other.alone = False
            return None
        connection = self._connections.get(node)
        before = connection.progress() if connection is not None and connection.is_open() else None
        if connection is None or before is None:
            self._connections.pop(node, None)
            self._asked.put(node)
            return None
        watched = Watched(node, connection, before, sent_bytes, self._clock.monotonic_s())
        self._under_way[node] = watched
        self._asked.put(watched)
        return watched

    def _run(self) -> None:
        looked_at: list[Watched] = []
        while True:
            while not looked_at or not self._asked.empty():
                asked = self._asked.get()
                if asked is None:
                    return
                if isinstance(asked, Watched):
                    looked_at.append(asked)
                else:
                    self._find(asked)
            wait_s = self._look(looked_at)
            if looked_at:
                time.sleep(wait_s)

    def _look(self, looked_at: list[Watched]) -> float:
        wait_s = _MOST_S
        for watched in list(looked_at):
            after_s = watched.look(self._clock)
            if after_s is None:
                looked_at.remove(watched)
                self._tell(watched)
            else:
                wait_s = min(wait_s, after_s)
        return wait_s

    def _tell(self, watched: Watched) -> None:
        try:
            self._done(watched)
        except Exception:
            log.exception("Error while learning from a transfer; the next ones are watched all the same.")

    def _find(self, node: str) -> None:
        now_s = self._clock.monotonic_s()
        if node in self._connections or now_s < self._search_s.get(node, now_s):
            return
        found = find_connection(self._addresses[node])
        if found is None:
            self._search_s[node] = now_s + SEARCH_S
        else:
            self._connections[node] = found
