"""A thread that does one thing at a time for an event loop: who waits can give up, and sees how long it waited."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..interfaces import ExecutorError

Result = TypeVar("Result")


class _Job:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.future = work, Future[Any]()
        self.asked_s, self.started_s = time.perf_counter(), None

    def queued_ms(self) -> float:
        """Time that the job waited, or has been waiting, for its turn."""
        until_s = time.perf_counter() if self.started_s is None else self.started_s
        return (until_s - self.asked_s) * 1000

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return  # given up while it waited
        self.started_s = time.perf_counter()
        try:
            self.future.set_result(self.work())
        except BaseException as err:  # it is the waiting side's, whatever it is
            self.future.set_exception(err)


class Worker:
    """Does what it is given in the order it came, in ``threads`` threads.

    What has begun is finished even when nobody waits for it any more, as a model's run cannot be stopped half-way.
    The threads are daemons: a run that hangs for good must not keep the process from ending, which a
    `ThreadPoolExecutor` would.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        """Start the threads."""
        self.name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[], Result], timeout_s: float | None = None) -> tuple[Result, float]:
        """Have ``work`` done.

        Returns:
            its result, and the time (ms) that it waited for its turn.

        Raises:
            ExecutorError: ``timeout``; or what ``work`` raised, with the time waited filled in.
        """
        if self._closed:
            raise ExecutorError("cancelled", f"{self.name} is closed and executes nothing any more.")
        job = _Job(work)
        self._jobs.put(job)
        try:
            result = await asyncio.wait_for(asyncio.wrap_future(job.future), timeout_s)
        except asyncio.TimeoutError:
            raise ExecutorError("timeout", self._too_late(job, timeout_s), job.queued_ms()) from None
        except ExecutorError as err:
            err.queued_ms = job.queued_ms()
            raise
        return result, job.queued_ms()

    def _too_late(self, job: _Job, timeout_s: float | None) -> str:
        ms = (timeout_s or 0.0) * 1000
        if job.started_s is None:
            return f"{self.name}: no answer within {ms:.0f} ms; it was still waiting for earlier frames."
        return (
            f"{self.name}: no answer within {ms:.0f} ms, of which {job.queued_ms():.0f} ms waiting its turn."
        )

    def close(self) -> None:
        """Take nothing more; what waits is still done. Harmless when called twice."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
            del job  # its result may be large, and the next job long in coming
