"""The engine: every frame that is offered gives exactly one result and one record, whatever happens to it.

A frame's `Story` is opened when it is offered and closed by `_close`, which runs in the callback of the frame's task:
asyncio calls it however the task ends, even if it never began. Nothing else closes a story, and `_close` does nothing
that could fail before the result is out and the record is handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from ..clock import Clock
from ..interfaces import Executor, Frame
from ..log_records import FrameRecord, Mode
from .calls import Call
from .race import Limits, Race
from .story import Judgement, Result, Story

Overload = Literal["skip", "wait"]

log = logging.getLogger(__name__)


class Mind(Protocol):
    """Observes, decides, and learns from what happens; none of it may wait for anything."""

    def judge(self, story: Story) -> Judgement:
        """Decide on a frame, whose payloads are known."""
        ...

    def backup(self, judgement: Judgement) -> str | None:
        """The allowed remote placement to try when the device itself has failed; None: there is none."""
        ...

    def placed(self, story: Story, call: Call) -> None:
        """A call begins."""
        ...

    def beaten(self, story: Story, call: Call) -> None:
        """Another call was faster; this one may still answer."""
        ...

    def headed(self, story: Story, call: Call) -> None:
        """The device has done its part of a split model."""
        ...

    def sending(self, story: Story, call: Call) -> None:
        """The rest of a split model is sent for."""
        ...

    def rest_ms(self, story: Story, call: Call) -> float:
        """How long the rest of a split model is believed to take."""
        ...

    def ended(self, story: Story, call: Call) -> None:
        """A call has ended, late ones included."""
        ...

    def answered(self, story: Story) -> None:
        """The frame's result is known, or that there is none."""
        ...


class Recorder(Protocol):
    """Makes and hands on the records of frames."""

    def record(self, story: Story) -> FrameRecord:
        """Account for a frame whose calls have ended, and have it logged.

        Must not fail on any story.
        """
        ...


@dataclass
class Totals:
    """Counts of a run. ``offered`` equals ``delivered`` equals ``recorded`` once it has been drained."""

    offered: int = 0
    delivered: int = 0
    recorded: int = 0
    answered: int = 0
    overloaded: int = 0
    faults: int = 0  # errors of our own code, each logged with its traceback


class Engine:
    """Takes frames and sees each of them through.

    Used from one event loop.

    Args:
        executors: by placement; the first is the device's.
        mind: decides.
        recorder: accounts.
        clock: tells the time.
        mode: in shadow mode all frames are executed on the device.
        limits: of time and number.
        queue: frames without a result at most.
        first_number: number of the first frame.
        on_result: is handed each result in the order of their coming.
    """

    def __init__(
        self,
        executors: Mapping[str, Executor],
        mind: Mind,
        recorder: Recorder,
        clock: Clock,
        *,
        mode: Mode,
        limits: Limits,
        queue: int,
        first_number: int = 0,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self.totals = Totals()
        self._executors, self._mind, self._recorder, self._clock = executors, mind, recorder, clock
        self._local = next(iter(executors))
        self._mode: Mode = mode
        self._queue, self._next, self._on_result = queue, first_number, on_result
        self._race = Race(executors, mind, clock, limits, self._fault)
        self._tasks: dict[asyncio.Task[None], Story] = {}
        self._open = 0  # frames without a result
        self._room, self._idle = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._idle.set()
        self._previous_s: float | None = None

    @property
    def in_flight(self) -> int:
        """Frames without a result."""
        return self._open

    @property
    def has_room(self) -> bool:
        """Whether the next frame would be taken."""
        return self._open < self._queue

    async def room(self) -> None:
        """Wait until a frame would be taken."""
        await self._room.wait()

    async def idle(self) -> None:
        """Wait until every frame has its result."""
        await self._idle.wait()

    def offer(self, frame: Frame, issued_s: float | None = None) -> None:
        """Take a frame; its result follows, at once (without an answer) where there is no room.

        Args:
            frame: with or without pixels.
            issued_s: the clock's time from which its latency counts; None: now.
        """
        story = self._begin(frame, self._clock.monotonic_s() if issued_s is None else issued_s)
        if not self.has_room:
            self.totals.overloaded += 1
            story.reason, story.problem = "overload", f"{self._open} frames wait for their results"
            self._count(+1)
            self._close(story)
            return
        self._count(+1)
        task = asyncio.get_running_loop().create_task(self._serve(story))
        self._tasks[task] = story
        task.add_done_callback(self._task_ended)

    async def drain(self, timeout_s: float) -> None:
        """Wait for the frames under way; those that take longer are answered without a result."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.idle(), timeout_s)
        for task, story in self._tasks.items():
            if not story.delivered and not task.done():
                story.reason = "shutdown"
                story.problem = story.problem or "the run was stopped before it was done"
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # the callbacks
        await self._race.rest()

    def _begin(self, frame: Frame, issued_s: float) -> Story:
        gap_s = 0.0 if self._previous_s is None else max(issued_s - self._previous_s, 0.0)
        story = Story(frame, self._next, issued_s, self._clock.utc(), gap_s, problem=frame.problem)
        self._previous_s = issued_s
        self._next += 1
        self.totals.offered += 1
        return story

    async def _serve(self, story: Story) -> None:
        if story.problem is not None or story.frame.rgb is None:
            story.reason = "bad-image"
            story.problem = story.problem or "the frame has no pixels"
            return
        self._judge(story)
        first, backups = self._plan(story)
        await self._race.run(story, first, backups)
        self._deliver(story)
        await self._race.settle(story)

    def _judge(self, story: Story) -> None:
        """Observe and decide; if that itself fails, the device executes the frame."""
        try:
            story.payload_bytes = {name: e.payload_bytes(story.frame) for name, e in self._executors.items()}
            story.judgement = self._mind.judge(story)
        except Exception as err:
            self._fault("deciding", err)
            story.problem = f"no decision: {type(err).__name__}"

    def _plan(self, story: Story) -> tuple[str, list[str]]:
        """Where to execute first, and where else if that fails or takes too long."""
        judged = story.judgement
        if judged is None:
            return self._local, []
        backup = None
        if self._mode == "shadow":
            story.fallback = None if judged.placement == self._local else "shadow"
            return self._local, []
        if judged.placement != self._local:
            return judged.placement, [self._local]
        try:
            backup = self._mind.backup(judged)
        except Exception as err:
            self._fault("choosing a backup", err)
        return self._local, [] if backup is None else [backup]

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        story = self._tasks.pop(task)
        if not task.cancelled() and (err := task.exception()) is not None:
            self._fault("serving a frame", err)
            story.problem = story.problem or f"internal error: {type(err).__name__}"
        self._close(story)

    def _close(self, story: Story) -> None:
        self._race.abandon(story)
        self._deliver(story)
        try:
            self._recorder.record(story)
        except Exception as err:  # it must not, but frames go on if it does
            self._fault("recording a frame", err)
        self.totals.recorded += 1

    def _deliver(self, story: Story) -> None:
        """Hand out the result, once."""
        if story.delivered:
            return
        story.delivered = True
        self.totals.delivered += 1
        self.totals.answered += story.winner is not None
        self._count(-1)
        for what, step in (("learning from a result", self._learn), ("a taker of results", self._hand_out)):
            try:
                step(story)
            except Exception as err:
                self._fault(what, err)

    def _learn(self, story: Story) -> None:
        self._mind.answered(story)

    def _hand_out(self, story: Story) -> None:
        if self._on_result is not None:
            self._on_result(story.result())

    def _count(self, change: int) -> None:
        self._open += change
        (self._room.set if self.has_room else self._room.clear)()
        (self._idle.set if self._open == 0 else self._idle.clear)()

    def _fault(self, what: str, err: BaseException) -> None:
        """An error of our own: counted and told, never the end of the run."""
        self.totals.faults += 1
        log.error("Error while %s; the run goes on.", what, exc_info=err)
