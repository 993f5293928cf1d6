"""Several worker processes, each training one job at a time; the search itself stays in this process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from ...envs.errors import CarbonPilotError
from .worker import Done, Job, Rung, work

POLL_S = 0.2

Answer = Callable[[Rung], bool]


class Pool:
    """Lends workers; they start when they are first needed and hold what they have imported.

    Use it as a context: no worker outlives it.
    """

    def __init__(self, jobs: int) -> None:
        """Nothing is started yet."""
        self._jobs, self._context = jobs, multiprocessing.get_context("spawn")
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Job] = {}
        self._processes: dict[Connection, Any] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for connection, process in self._processes.items():
            connection.close()
            process.terminate()
        for process in self._processes.values():
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()

    @property
    def room(self) -> int:
        """Jobs that can be given now."""
        return self._jobs - len(self._busy)

    @property
    def busy(self) -> int:
        """Jobs that are on their way."""
        return len(self._busy)

    def give(self, job: Job) -> None:
        """Start a job; there must be room."""
        connection = self._idle.pop() if self._idle else self._new()
        connection.send(job)
        self._busy[connection] = job

    def take(self, answer: Answer) -> list[Done]:
        """The jobs that have ended; looks for a moment, and answers those that ask whether to go on."""
        done = []
        for connection in wait(list(self._busy), timeout=POLL_S) if self._busy else []:
            assert isinstance(connection, Connection)
            job = self._busy[connection]
            try:
                message = connection.recv()
            except (EOFError, ConnectionError):
                done.append(self._lost(connection, job))
                continue
            if isinstance(message, Rung):
                connection.send(answer(message))
                continue
            self._idle.append(connection)
            del self._busy[connection]
            done.append(message)
        return done

    def stop(self) -> None:
        """Ask each training to save and end."""
        for connection in self._busy:
            self._processes[connection].terminate()

    def _new(self) -> Connection:
        here, there = self._context.Pipe()
        process = self._context.Process(target=work, args=(there, os.getpid()))
        process.start()
        there.close()
        self._processes[here] = process
        return here

    def _lost(self, connection: Connection, job: Job) -> Done:
        process = self._processes.pop(connection)
        process.join()
        connection.close()
        del self._busy[connection]
        return Done(job.key, None, f"its process ended with exit code {process.exitcode}")


def failed(done: Done) -> CarbonPilotError:
    """The error for a training that must not fail."""
    return CarbonPilotError(f"Training {done.key} failed: {done.reason}")
