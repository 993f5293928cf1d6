"""Brings frames to the engine: read ahead in a thread, offered when they are due."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Protocol

from ...envs.errors import InputError
from ...envs.schema import ClosedLoop, Poisson, Scenario, TraceArrivals
from ..clock import Clock
from ..interfaces import Frame
from .engine import Engine, Overload

AHEAD = 3  # frames decoded before they are due
TIMER_S = 0.001  # what asyncio's timers are rounded up to


class FrameThread:
    """Reads a source in a thread of its own: decoding takes milliseconds that the event loop has not.

    Args:
        frames: the source; whatever it raises ends the stream and comes out of `get`.
        ahead: frames to have ready.
    """

    def __init__(self, frames: Iterator[Frame], ahead: int = AHEAD) -> None:
        """Begin to read; call it from the event loop."""
        self._frames, self._room = frames, threading.Semaphore(ahead)
        self._ready: asyncio.Queue[Frame | BaseException | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._read, name="frames", daemon=True)
        self._thread.start()

    async def get(self) -> Frame | None:
        """The next frame; None after the last one."""
        got = await self._ready.get()
        if isinstance(got, BaseException):
            raise got
        self._room.release()
        return got

    def stop(self) -> None:
        """Read no more; a read under way (a camera that is silent, say) ends with the process."""
        self._stopping = True
        self._room.release()

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for frame in self._frames:
                if self._stopping:
                    break
                self._hand_over(frame)
                self._room.acquire()
                if self._stopping:
                    break
        except Exception as err:
            last = err
        self._hand_over(last)

    def _hand_over(self, item: Frame | BaseException | None) -> None:
        if not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._ready.put_nowait, item)
            except RuntimeError:  # the loop was closed just now
                self._stopping = True


class Pace(Protocol):
    """Says when a frame is due."""

    async def due(self, engine: Engine, frame: Frame) -> float:
        """Wait until the frame is due; returns its time of issue on the clock, s."""
        ...


class Steady:
    """So many frames a second, whatever happens to them."""

    def __init__(self, per_s: float, clock: Clock) -> None:
        """The first frame is due at once."""
        if not 0 < per_s < float("inf"):
            raise InputError(f"The frame rate must be above 0 a second, got {per_s}.")
        self._gap_s, self._clock = 1 / per_s, clock
        self._next_s: float | None = None

    async def due(self, engine: Engine, frame: Frame) -> float:
        """Keep to the timetable; a frame that is read too late is late."""
        now_s = self._clock.monotonic_s()
        due_s = now_s if self._next_s is None else self._next_s
        self._next_s = due_s + self._gap_s
        if due_s - now_s > TIMER_S:
            await asyncio.sleep(due_s - now_s - TIMER_S)
        return min(due_s, self._clock.monotonic_s())  # being late counts, the timer's coarseness does not

    def held_up(self, now_s: float) -> None:
        """The frame was issued later than due because it waited for room: go on from there, without a burst."""
        self._next_s = max(self._next_s or 0.0, now_s + self._gap_s)


class OneByOne:
    """The next frame when the last one has its result."""

    def __init__(self, clock: Clock) -> None:
        """Needs nothing else."""
        self._clock = clock

    async def due(self, engine: Engine, frame: Frame) -> float:
        """Wait for the result before it."""
        await engine.idle()
        return self._clock.monotonic_s()


class AsTheyCome:
    """A camera's own rate: a frame is issued when it was taken."""

    async def due(self, engine: Engine, frame: Frame) -> float:
        """At once."""
        return frame.captured_s


def pace_of(scenario: Scenario, clock: Clock, per_s: float | None, live: bool) -> Pace:
    """The pace of a run: as asked for, else a camera's own, else as the site's arrivals are on the average."""
    if per_s is not None:
        return Steady(per_s, clock)
    if live:
        return AsTheyCome()
    arrivals = scenario.arrivals
    if isinstance(arrivals, ClosedLoop):
        return OneByOne(clock)
    if isinstance(arrivals, TraceArrivals):
        return Steady(arrivals.mean_per_s, clock)
    mean = (arrivals.low_per_s + arrivals.high_per_s) / 2
    assert isinstance(arrivals, Poisson) or arrivals.kind == "periodic"
    return Steady(mean, clock)


async def feed(engine: Engine, source: FrameThread, pace: Pace, overload: Overload, clock: Clock) -> None:
    """Offer all frames of a source; cancel it to stop."""
    while (frame := await source.get()) is not None:
        issued_s = await pace.due(engine, frame)
        if overload == "wait" and not engine.has_room:
            await engine.room()
            issued_s = clock.monotonic_s()
            if isinstance(pace, Steady):
                pace.held_up(issued_s)
        engine.offer(frame, issued_s)
