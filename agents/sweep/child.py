"""A training in a process of its own that does not outlive the one that started it.

    python -m carbonpilot.agents.sweep.child PARENT_PID WORD ...

runs ``carbonpilot WORD ...``. Where the parent is killed the kernel kills this process too (PR_SET_PDEATHSIG of
Linux), so that a trial which is started again is never trained twice at the same time in the same folder.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PROGRAM, MODULE = "carbonpilot", "carbonpilot.cli"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Have this process killed when ``parent`` ends; it ends now where that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"{PROGRAM}: the process that started this training is gone")


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    sys.argv = [PROGRAM, *sys.argv[2:]]
    runpy.run_module(MODULE, run_name="__main__")
