"""Whether a process ends with the one that began it."""

from __future__ import annotations

import subprocess
import time


def assert_ends_with(parent: subprocess.Popen[str], within_s: float) -> None:
    """Kill the parent, whose first line printed is the process id of its child: the child must end too."""
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + within_s
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
