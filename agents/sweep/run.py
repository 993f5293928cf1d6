"""Run a sweep: what is finished is skipped, what was interrupted goes on, what fails is recorded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from ...envs.errors import CarbonPilotError
from ..training_guard import stopping_on_signals
from .folder import SweepFolder
from .process import Ended, reason
from .trial import AnyTrial

RETRIES = 2  # further attempts of a trial whose process was lost
REPORT_S = 1.0

Say = Callable[[str], None]
Report = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


class Engine(Protocol):
    """Where trials run."""

    jobs: int

    @property
    def running(self) -> int:
        """Trials that are on their way."""
        ...

    def start(self, trial: AnyTrial) -> None:
        """Start a trial."""
        ...

    def wait(self) -> list[Ended]:
        """The trials that have ended; looks for a moment, and may find none."""
        ...

    def stop(self) -> None:
        """Ask each training to save and end."""
        ...

    def close(self) -> None:
        """Let nothing run on."""
        ...


class Sweep:
    """One session of a sweep."""

    def __init__(
        self,
        folder: SweepFolder,
        trials: Sequence[AnyTrial],
        engine: Engine,
        say: Say,
        report: Report,
        retries: int = RETRIES,
    ) -> None:
        """Prepare; ``folder`` knows the trials already and is locked."""
        self._folder, self._engine, self._say, self._report = folder, engine, say, report
        self._retries, self._trials = retries, {trial.name: trial for trial in trials}
        self._attempts: dict[str, int] = {}
        self._started_s: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._stopping, self._reported_s = False, 0.0

    def run(self) -> None:
        """Run every trial that is not finished.

        Raises:
            CarbonPilotError: asked to stop, or trials failed; what is finished is kept in either case.
        """
        with suppress(FileNotFoundError):
            self._folder.stop_file.unlink()
        waiting = deque(name for name in self._trials if not self._skip(name))
        self._tell_plan(len(waiting))
        try:
            with stopping_on_signals(self._ask_to_stop):
                self._loop(waiting)
        finally:
            self._engine.close()
        self._conclude()

    def _loop(self, waiting: deque[str]) -> None:
        asked = False
        while self._engine.running or (waiting and not self._stopping):
            if self._stopping and not asked:
                asked = True
                self._say(f"asked to stop: {self._engine.running} trainings save and end")
                self._engine.stop()
            while not self._stopping and self._engine.running < self._engine.jobs:
                if (name := self._next(waiting)) is None:
                    break
                self._start(name)
            for end in self._engine.wait():
                if self._take(end):
                    waiting.append(end.name)
            self._show()

    def _next(self, waiting: deque[str]) -> str | None:
        """Take the first trial that can start; those that wait for a head that was not made have failed."""
        for name in tuple(waiting):
            head = self._trials[name].needs
            if head is not None and not self._folder.finished(head):
                if head not in waiting and head not in self._under_way:
                    waiting.remove(name)
                    self._folder.note(name, status="failed", reason=f"its risk head {head} was not made")
                continue
            waiting.remove(name)
            return name
        return None

    def _skip(self, name: str) -> bool:
        if self._folder.finished(name):
            self._folder.note(name, status="finished", reason="")
            return True
        return False

    def _start(self, name: str) -> None:
        self._attempts[name] = self._attempts.get(name, 0) + 1
        total = self._folder.trials[name]["attempts"] + 1
        self._folder.note(name, status="running", attempts=total, reason="")
        self._started_s[name] = time.monotonic()
        self._under_way.add(name)
        self._engine.start(self._trials[name])
        steps = self._folder.steps_done(name)
        self._say(f"{name}: started" + (f" again at step {steps}" if steps else ""))

    def _take(self, end: Ended) -> bool:
        """Note how a trial ended; returns whether it is to be tried again."""
        name, seconds = end.name, time.monotonic() - self._started_s[end.name]
        self._under_way.discard(name)
        if end.code == 0 and self._folder.finished(name):
            self._folder.note(name, status="finished", seconds=round(seconds, 1))
            done = sum(self._folder.trials[other]["status"] == "finished" for other in self._trials)
            self._say(f"{name}: finished in {seconds:.0f} s ({done} of {len(self._trials)})")
            return False
        why = end.reason or reason(self._folder.log(name))
        if self._stopping:
            self._folder.note(name, status="interrupted", reason=why)
            return False
        again = end.code is None and self._attempts[name] <= self._retries
        self._folder.note(name, status="waiting" if again else "failed", reason=why)
        self._say(f"{name}: {'lost, is tried again' if again else 'FAILED'}: {why}")
        return again

    def _ask_to_stop(self) -> None:
        self._stopping = True

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._reported_s >= REPORT_S or not self._engine.running:
            self._reported_s = now
            done = sum(self._folder.steps_done(name) for name in self._trials)
            total = sum(trial.steps for trial in self._trials.values())
            self._report(f"{self._engine.running} trainings running", min(done, total), max(total, 1))

    def _tell_plan(self, waiting: int) -> None:
        skipped = len(self._trials) - waiting
        told = f", {skipped} of them finished already" if skipped else ""
        self._say(
            f"{len(self._trials)} trials{told}; {self._engine.jobs} at a time, into {self._folder.path}"
        )

    def _conclude(self) -> None:
        records = self._folder.trials
        failed = [name for name in self._trials if records[name]["status"] == "failed"]
        done = sum(self._folder.finished(name) for name in self._trials)
        if self._stopping:
            raise CarbonPilotError(
                f"Stopped when asked to, {done} of {len(self._trials)} trials are finished. "
                "The same command goes on with the others from their checkpoints."
            )
        if failed:
            told = "\n".join(f"  {name}: {records[name]['reason']}" for name in failed)
            raise CarbonPilotError(
                f"{len(failed)} of {len(self._trials)} trials failed, {done} are finished:\n{told}\n"
                f"Their logs are in {self._folder.path / 'logs'}. The same command tries them once more."
            )
        self._say(f"all {done} trials are finished: carbonpilot sweep report {self._folder.path}")
