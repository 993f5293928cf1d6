"""The processor for those whose times are measured, as soon as they want it."""

from __future__ import annotations

import contextlib
import ctypes
import os

_PR_SET_TIMERSLACK = 29  # linux/include/uapi/linux/prctl.h


def prefer_processor() -> str:
    """Let this thread run before ordinary ones, and wake at the moment asked; says how it is scheduled.

    Only for threads that wait nearly always. Without the permission nothing changes but the wake-up.

    Returns:
        "fifo" or "normal".
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # ns; the default is 50 us
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (OSError, AttributeError):
        return "normal"
    return "fifo"
