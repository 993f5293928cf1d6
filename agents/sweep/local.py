"""Trials in processes of this machine."""

from __future__ import annotations

import signal
import subprocess
import time

from .folder import SweepFolder
from .process import POLL_S, Ended, ended, start
from .trial import AnyTrial


class LocalEngine:
    """Runs up to ``jobs`` trainings side by side.

    Attributes:
        jobs: trainings at a time.
    """

    def __init__(self, folder: SweepFolder, jobs: int) -> None:
        """Nothing is started yet."""
        self.jobs, self._folder = jobs, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def running(self) -> int:
        """Trials that are on their way."""
        return len(self._running)

    def start(self, trial: AnyTrial) -> None:
        """Start a trial."""
        folder = self._folder
        self._running[trial.name] = start(folder.words(trial), folder.log(trial.name))

    def wait(self) -> list[Ended]:
        """The trials that have ended; looks for a moment, and may find none."""
        time.sleep(POLL_S)
        done = {name: code for name, p in self._running.items() if (code := p.poll()) is not None}
        for name in done:
            del self._running[name]
        return [ended(name, code) for name, code in done.items()]

    def stop(self) -> None:
        """Ask each training to save and end."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Let nothing run on."""
        for process in self._running.values():
            process.kill()
            process.wait()
