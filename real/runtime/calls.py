"""Calls to executors: one call, and the limits of how many there are at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..interfaces import Answer, ErrorKind, Head


@dataclass(eq=False)
class Call:
    """One call to an executor; times of the clock, s.

    Attributes:
        placement, started_s: where, and when the frame asked for it.
        payload_bytes: what it puts on the wire.
        began_s: when its turn had come; None before.
        ended_s: None while it runs.
        error, said: kind of failure and the whole message; None if it answered.
        answer: what came.
        used: the answer is the frame's result.
        beaten: another call answered the frame first.
        split: the device computes a head, a server the rest.
        head, headed_s: what the device gave of a split model, and when; None before.
        sent_s: when the rest of a split model was sent for; None before.
    """

    placement: str
    started_s: float
    payload_bytes: int
    began_s: float | None = None
    ended_s: float | None = None
    error: ErrorKind | None = None
    said: str = ""
    answer: Answer | None = None
    used: bool = False
    beaten: bool = False
    executor_queued_ms: float = 0.0
    split: bool = False
    head: Head | None = None
    headed_s: float | None = None
    sent_s: float | None = None

    @property
    def at_head(self) -> bool:
        """Whether the rest of a split model was never sent for: nothing of it says anything about link and node."""
        return self.split and self.sent_s is None

    @property
    def away_s(self) -> float | None:
        """When it left the device: never, for one that the device computes whole; see `Call.split`."""
        return self.sent_s if self.split else self.began_s

    @property
    def queued_ms(self) -> float:
        """Time that it waited for its turn, here and inside the executor; of a split model, for that of its rest."""
        if not self.split:
            return self._waited_ms(self.started_s, self.began_s) + self.executor_queued_ms
        return 0.0 if self.headed_s is None else self._waited_ms(self.headed_s, self.sent_s)

    @property
    def head_queued_ms(self) -> float:
        """Time that a split model waited for its turn on the device."""
        return self._waited_ms(self.started_s, self.began_s) if self.split else 0.0

    @property
    def head_ms(self) -> float:
        """How long the device was a split model's, also where its head failed or was given up."""
        return (
            self._waited_ms(self.began_s, self.headed_s) if self.split and self.began_s is not None else 0.0
        )

    def _waited_ms(self, from_s: float, turn_s: float | None) -> float:
        until_s = turn_s if turn_s is not None else self.ended_s
        return 0.0 if until_s is None else (until_s - from_s) * 1000


class Turns:
    """At most so many calls at a time; who waits for its turn can be cancelled.

    A call that was beaten keeps its turn, because its answer still tells about the node, but gives way at once to a
    frame that waits for one.
    """

    def __init__(self, count: int) -> None:
        """Allow ``count`` calls at a time."""
        self._turns = asyncio.Semaphore(count)
        self._beaten: dict[asyncio.Task[None], None] = {}  # in the order in which they were beaten

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it."""
        while self._turns.locked() and self._beaten:
            if next(iter(self._beaten)).done():
                self._beaten.pop(next(iter(self._beaten)))
                continue
            oldest = next(iter(self._beaten))
            self._beaten.pop(oldest)
            oldest.cancel()
            break
        async with self._turns:
            yield

    def beaten(self, task: asyncio.Task[None]) -> None:
        """Let this call give way from now on."""
        self._beaten[task] = None
        task.add_done_callback(lambda done: self._beaten.pop(done, None))


class DeviceTurns:
    """One call at a time, in the order in which they came; one that has missed the objective lets others go first.

    When a link breaks, the requests under way run into their timeouts one after the other and all come to the device
    then. Nobody waits for them any more as for the frames that are still in time, which a few of them in front would
    make late for seconds.
    """

    def __init__(self) -> None:
        """Nobody is there."""
        self._busy = False
        self._in_time: deque[asyncio.Future[None]] = deque()
        self._late: deque[asyncio.Future[None]] = deque()

    @property
    def busy(self) -> bool:
        """Whether somebody holds the turn."""
        return self._busy

    @asynccontextmanager
    async def take(self, patience_s: float | None = None) -> AsyncIterator[None]:
        """Wait for the turn and hold it.

        Args:
            patience_s: of a call that is late already: so long it lets all others go first; None: it is in time.
        """
        if patience_s is None or not await self._after_all(patience_s):
            await self._turn(self._in_time)
        try:
            yield
        finally:
            self._next()

    async def _after_all(self, patience_s: float) -> bool:
        """Whether the turn came before the patience was over."""
        try:
            await asyncio.wait_for(self._turn(self._late), patience_s)
        except asyncio.TimeoutError:
            return False
        return True

    async def _turn(self, queue: deque[asyncio.Future[None]]) -> None:
        if not self._busy:
            self._busy = True
            return
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had just come
                self._next()
            raise

    def _next(self) -> None:
        for queue in (self._in_time, self._late):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._busy = False
