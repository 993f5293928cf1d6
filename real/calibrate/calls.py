"""Calls of an executor one after the other, at the camera's pace, each timed as the runtime sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from ...envs.errors import InputError
from ..interfaces import Answer, Executor, ExecutorError, Frame

TIMEOUT_S = 30.0
MOST_FAILED = 0.1  # share of calls that may fail before the calibration is given up


@dataclass(frozen=True)
class Call:
    """One call that answered: its whole time, ms, and the answer."""

    wall_ms: float
    answer: Answer


async def paced_calls(
    executor: Executor,
    frames: Sequence[Frame],
    count: int,
    gap_s: float,
    after: Callable[[Call], Awaitable[None]] | None = None,
) -> list[Call]:
    """Execute frames one at a time.

    Args:
        executor: started.
        frames: taken in turn.
        count: calls.
        gap_s: from the start of a call to the next one's, or to its end where that is later; 0 for back to back.
        after: awaited after each call, before the next.

    Raises:
        InputError: more than a tenth of the calls failed; says how.
    """
    done: list[Call] = []
    failures: list[ExecutorError] = []
    due_s = time.perf_counter()
    for frame in islice(cycle(frames), count):
        await asyncio.sleep(max(due_s - time.perf_counter(), 0.0))
        start_s = time.perf_counter()
        due_s = max(due_s + gap_s, start_s)
        try:
            call = await timed(executor, frame)
        except ExecutorError as error:
            failures.append(error)
            if len(failures) > max(1.0, MOST_FAILED * count):
                raise InputError(
                    f"{executor.placement}: {len(failures)} of {len(done) + len(failures)} calls failed, the last one "
                    f"so: {error}"
                ) from error
            continue
        done.append(call)
        if after is not None:
            await after(call)
    return done


async def timed(executor: Executor, frame: Frame) -> Call:
    """One call and its time.

    Raises:
        ExecutorError: it failed.
    """
    start_s = time.perf_counter()
    answer = await executor.execute(frame, TIMEOUT_S)
    return Call((time.perf_counter() - start_s) * 1000, answer)


async def warm_up(executor: Executor, frames: Sequence[Frame], count: int = 3) -> None:
    """Calls that are not counted.

    Raises:
        InputError: they fail; says how.
    """
    await paced_calls(executor, frames, count, 0.0)
