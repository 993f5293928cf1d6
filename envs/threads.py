"""How many threads a large batch may use, and a second one for what can be drawn beside something else."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from .compiling import COMPILED
from .errors import InputError

SMALLEST_BATCH = 512  # episodes; below, handing work over costs more than it saves
SWITCH = "CARBONPILOT_THREADS"


def allowed_threads(batch: int) -> int:
    """Threads for a batch: 2, or 1 where it is small, there is one core, nothing is compiled, or `SWITCH` says 1."""
    wanted = os.environ.get(SWITCH, "2")
    if wanted not in ("1", "2"):
        raise InputError(f"{SWITCH} must be 1 or 2 (threads that work on a large batch), got '{wanted}'.")
    # Only POSIX has the call by which a waiting thread offers its core to others.
    if batch < SMALLEST_BATCH or not COMPILED or not hasattr(os, "sched_yield"):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(wanted), cores)


class _AtOnce(Executor):
    """Runs what it is given in the caller's thread."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def worker(batch: int) -> Executor:
    """What does one thing after the other, beside the caller if the batch may use two threads.

    Its thread lives as long as the ``with`` block. An error surfaces where the result is asked for.
    """
    return ThreadPoolExecutor(1, "carbonpilot-worker") if allowed_threads(batch) > 1 else _AtOnce()
