"""The calls of one frame: where it was decided to go, a fallback beside or after it, and the first good answer wins."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..clock import Clock
from ..interfaces import Answer, Executor, ExecutorError, HeadAndTail
from .calls import Call, DeviceTurns, Turns
from .story import Story


class Learner(Protocol):
    """Is told of calls; see `engine.Mind`."""

    def placed(self, story: Story, call: Call) -> None: ...  # noqa: D102

    def beaten(self, story: Story, call: Call) -> None: ...  # noqa: D102

    def headed(self, story: Story, call: Call) -> None: ...  # noqa: D102

    def sending(self, story: Story, call: Call) -> None: ...  # noqa: D102

    def rest_ms(self, story: Story, call: Call) -> float: ...  # noqa: D102

    def ended(self, story: Story, call: Call) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Limits:
    """Limits of calls.

    Attributes:
        in_flight: remote calls at a time; the device computes one frame at a time.
        remote_timeout_s: a remote call is given up after this long.
        local_timeout_s: a call to the device as well.
        give_up_s: a frame without an answer is a frame without a result after this long.
        late_s: a frame that comes to the device after this long has missed its objective and lets others go first.
    """

    in_flight: int
    remote_timeout_s: float
    local_timeout_s: float
    give_up_s: float
    late_s: float = math.inf


class Race:
    """Runs the calls of frames.

    Args:
        executors: by placement; the first is the device's.
        learner: is told how calls go.
        clock: tells the time.
        limits: of time and number.
        fault: takes errors of our own code.
    """

    def __init__(
        self,
        executors: Mapping[str, Executor],
        learner: Learner,
        clock: Clock,
        limits: Limits,
        fault: Callable[[str, BaseException], None],
    ) -> None:
        self._executors, self._learner, self._clock = executors, learner, clock
        self._limits, self._fault = limits, fault
        self._local = next(iter(executors))
        self._split = {name: e for name, e in executors.items() if isinstance(e, HeadAndTail)}
        self._device, self._remote = DeviceTurns(), Turns(limits.in_flight)
        self._left: set[asyncio.Task[None]] = set()

    async def run(self, story: Story, first: str, backups: Iterable[str]) -> None:
        """Call until a good answer has come, or none can come any more; `settle` sees to the calls that are left."""
        waiting = deque(backups)
        give_up_s = story.issued_s + self._limits.give_up_s
        fallback_s = None if story.judgement is None else story.judgement.fallback_at_s
        self._start(story, first)
        seen: set[asyncio.Task[None]] = set()
        while True:
            ended = [task for task in story.tasks if task.done() and task not in seen]
            seen.update(ended)
            if self._win(story, [story.tasks[task] for task in ended]):
                return
            now_s = self._clock.monotonic_s()
            if now_s >= give_up_s:
                return
            why = next((story.tasks[task].error or "cancelled" for task in ended), None)
            if why is None and waiting and fallback_s is not None and now_s >= fallback_s:
                why, fallback_s = "deadline", None
            if waiting and why is not None:
                story.fallback = story.fallback or why
                self._clear_the_device(story)
                self._start(story, waiting.popleft())
            running = [task for task in story.tasks if not task.done()]
            if not running and seen.issuperset(story.tasks):
                return
            until_s = give_up_s if fallback_s is None or not waiting else min(fallback_s, give_up_s)
            if running:
                left_s = max(until_s - now_s, 0.0)
                await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)

    async def settle(self, story: Story) -> None:
        """See to the calls that lost.

        What waits for its turn is dropped, what the device computes cannot be stopped (of a split model nothing is
        sent any more), and a remote call may go on to its timeout unless another frame needs its turn: its answer
        tells how the node does.
        """
        for task, call in story.tasks.items():
            if task.done():
                continue
            call.beaten = True
            self._tell("learning from a beaten call", self._learner.beaten, story, call)
            if call.began_s is None or (call.headed_s is not None and call.at_head):
                task.cancel()
            elif call.placement != self._local and not call.at_head:
                self._remote.beaten(task)
        running = [task for task in story.tasks if not task.done()]
        if running:
            longest_s = max(self._limits.remote_timeout_s, self._limits.local_timeout_s)
            await asyncio.wait(running, timeout=longest_s)

    def abandon(self, story: Story) -> None:
        """End what is left of a frame's calls, at once and for good."""
        for task, call in story.tasks.items():
            if call.ended_s is None:
                call.ended_s, call.error = self._clock.monotonic_s(), call.error or "cancelled"
            if not task.done():
                task.cancel()
                self._left.add(task)
                task.add_done_callback(self._left.discard)

    async def rest(self, timeout_s: float = 1.0) -> None:
        """Let abandoned calls end; one that does not within the time is left alone."""
        if self._left:
            await asyncio.wait(self._left, timeout=timeout_s)

    def _win(self, story: Story, ended: list[Call]) -> bool:
        """Take the first good answer, if there is one."""
        good = [call for call in ended if call.answer is not None]
        if not good:
            return False
        min(good, key=lambda call: call.ended_s or 0.0).used = True
        story.answered_s = self._clock.monotonic_s()
        return True

    def _start(self, story: Story, placement: str) -> None:
        call = Call(placement, self._clock.monotonic_s(), story.payload_bytes.get(placement, 0))
        call.split = placement in self._split
        here = call.split or placement == self._local
        late = here and call.started_s - story.issued_s > self._limits.late_s
        if not late:  # else it takes nothing of the device before its turn comes
            self._placed(story, call)
        task = asyncio.get_running_loop().create_task(self._call(story, call, late))
        story.calls.append(call)
        story.tasks[task] = call
        task.add_done_callback(lambda _: self._ended(story, call))

    def _placed(self, story: Story, call: Call) -> None:
        self._tell("learning from a call's begin", self._learner.placed, story, call)

    def _clear_the_device(self, story: Story) -> None:
        """Before the device computes a frame itself: a head of it that still waits would only make that later."""
        for task, call in story.tasks.items():
            if call.split and call.began_s is None and self._device.busy:
                task.cancel()

    def _device_turn(self, story: Story, call: Call, late: bool) -> AbstractAsyncContextManager[None]:
        # Half of the time that is left: then it queues as all others, so that it gets its result still.
        left_s = story.issued_s + self._limits.give_up_s - call.started_s
        return self._device.take(max(left_s / 2, 0.0) if late else None)

    async def _call(self, story: Story, call: Call, late: bool) -> None:
        try:
            if call.split:
                answer = await self._both_parts(story, call, late)
            elif call.placement == self._local:
                answer = await self._on_the_device(story, call, late)
            else:
                async with self._remote.take():
                    call.began_s = self._clock.monotonic_s()
                    executor, timeout_s = self._executors[call.placement], self._limits.remote_timeout_s
                    answer = await executor.execute(story.frame, timeout_s)
            _check(answer)
            call.answer, call.executor_queued_ms = answer, answer.queued_ms
        except ExecutorError as err:
            call.error, call.said, call.executor_queued_ms = err.kind, str(err), err.queued_ms
        except Exception as err:
            self._fault(f"executing at {call.placement}", err)
            call.error, call.said = "model-error", f"{type(err).__name__}: {err}"
        finally:
            if call.ended_s is None:
                call.ended_s = self._clock.monotonic_s()

    async def _on_the_device(self, story: Story, call: Call, late: bool) -> Answer:
        async with self._device_turn(story, call, late):
            self._begin(story, call, late)
            return await self._executors[call.placement].execute(story.frame, self._limits.local_timeout_s)

    async def _both_parts(self, story: Story, call: Call, late: bool) -> Answer:
        """A split model: the device is free again as soon as it has done its part."""
        executor, limit_s = self._split[call.placement], self._limits.remote_timeout_s
        async with self._device_turn(story, call, late):
            began_s = self._begin(story, call, late)
            call.head = await executor.head(story.frame, limit_s)
            call.headed_s = self._clock.monotonic_s()
        self._tell("learning from a head", self._learner.headed, story, call)
        if call.beaten:
            raise ExecutorError("cancelled", "another call had answered before its head was done")
        async with self._remote.take():
            left_s = began_s + limit_s - self._clock.monotonic_s()
            rest_ms = self._learner.rest_ms(story, call)
            if left_s * 1000 < rest_ms:
                raise ExecutorError(
                    "timeout",
                    f"its head was done so late that {left_s * 1000:.0f} ms are left, and the rest is believed to take "
                    f"{rest_ms:.0f} ms; nothing was sent",
                )
            call.sent_s = self._clock.monotonic_s()
            self._tell("learning from a sending", self._learner.sending, story, call)
            return await executor.tail(story.frame, call.head, left_s)

    def _begin(self, story: Story, call: Call, late: bool) -> float:
        """The device's turn has come."""
        if late:
            self._placed(story, call)
        call.began_s = self._clock.monotonic_s()
        return call.began_s

    def _ended(self, story: Story, call: Call) -> None:
        if call.answer is None and call.error is None:
            call.error, call.said = "cancelled", "given up"
        if call.ended_s is None:
            call.ended_s = self._clock.monotonic_s()
        self._tell("learning from a call", self._learner.ended, story, call)

    def _tell(self, what: str, step: Callable[[Story, Call], Any], story: Story, call: Call) -> None:
        try:
            step(story, call)
        except Exception as err:
            self._fault(what, err)


def _check(answer: Answer) -> None:
    """Refuse what is no mask, whoever made it: the executors compare the shape with the model's."""
    mask = getattr(answer, "mask", None)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.ndim != 2 or mask.size == 0:
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ExecutorError("wrong-answer", f"Expected a mask (h, w) of uint8, got {got}.")
