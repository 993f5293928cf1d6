"""Waiting until a moment without being late and without using up a processor that others need."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

_PR_SET_TIMERSLACK = 29  # linux/include/uapi/linux/prctl.h
_SPIN_S = 0.0003


def precise_timers() -> None:
    """Let this thread wake at the moment asked; with the permission, before ordinary threads."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # ns; the default is 50 us
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def wait_until(end_s: float) -> None:
    """Sleep, and spin for the last 0.3 ms; returns at once where the moment has passed."""
    while (left_s := end_s - time.monotonic()) > 0.0:
        if left_s > _SPIN_S:
            time.sleep(left_s - _SPIN_S)
