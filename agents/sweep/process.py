"""Start and watch the process of one trial; the same here and in a Ray worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import child

ERROR = "carbonpilot: error: "
POLL_S = 0.1


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended.

    Attributes:
        name: of the trial.
        code: exit code; None where the process, or the machine under it, was lost.
        reason: why it was lost or could not start; else empty, the log tells.
    """

    name: str
    code: int | None
    reason: str = ""


def start(words: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    """Start ``carbonpilot WORD ...``, its output added to a log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    with log.open("ab") as file:
        line = (
            f"== {time.strftime('%Y-%m-%d %H:%M:%S')} on {socket.gethostname()}, started by process {pid}\n"
        )
        file.write(line.encode())
        file.flush()
        return subprocess.Popen(
            [sys.executable, "-m", child.__name__, str(pid), *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,  # Ctrl-C on the terminal is the sweep's business, which then asks each to stop
        )


def environment() -> dict[str, str]:
    """One thread for each process: trials run side by side, and results do not depend on it."""
    return {"OMP_NUM_THREADS": "1", "CARBONPILOT_THREADS": "1", **os.environ}


def ended(name: str, code: int) -> Ended:
    """How a process ended, from its exit code; one that a signal killed is lost."""
    if code < 0:
        return Ended(name, None, f"killed by signal {-code}; was there too little memory?")
    return Ended(name, code)


def reason(log: Path) -> str:
    """What a training that failed said last."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return f"there is no log {log}"
    told = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return told[-1] if told else next((line for line in reversed(lines) if line.strip()), "it said nothing")
