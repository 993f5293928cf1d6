"""How a child process of the test bed is ended."""

from __future__ import annotations

import contextlib
import subprocess

_END_S = 3.0


def end_child(process: subprocess.Popen, wait_s: float = _END_S) -> None:
    """Terminate it, after ``wait_s`` by force, and close its pipes; harmless when it has ended."""
    process.terminate()
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what it could not flush, nobody reads any more
                pipe.close()
