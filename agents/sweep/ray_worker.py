"""What a Ray worker does for a sweep: the same process as without Ray, watched from a task."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ...envs.errors import InputError
from .process import POLL_S, start


@dataclass(frozen=True)
class Job:
    """One trial.

    Attributes:
        folder, token: of the sweep; the token shows that this machine sees the same folder.
        name: of the trial.
        words: its command line.
        log: file for its output.
    """

    folder: str
    token: str
    name: str
    words: tuple[str, ...]
    log: str


def play(job: Job) -> int:
    """Run a trial to its end; returns the exit code. If this process is killed, so is the training.

    Raises:
        InputError: this machine does not see the sweep's folder.
    """
    check_folder(Path(job.folder), job.token)
    process = start(job.words, Path(job.log))
    stop, asked = Path(job.folder) / "stop", False
    while (code := process.poll()) is None:
        if not asked and stop.exists():
            asked = True
            process.send_signal(signal.SIGTERM)
        time.sleep(POLL_S)
    return code


def check_folder(folder: Path, token: str) -> None:
    """Refuse a machine that has another folder, or none, under this path.

    Raises:
        InputError: saying so.
    """
    state = folder / "sweep.json"
    if not state.is_file() or json.loads(state.read_text()).get("token") != token:
        raise InputError(
            f"This machine of the Ray cluster does not see the sweep's folder {folder}. All machines need it under "
            "the same path: put it on a shared file system."
        )
