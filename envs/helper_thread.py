"""The second thread of a large batch: it takes half of each step's episodes while steps follow each other closely.

It listens for the next step for some 60 us, in compiled code that holds no lock, and sleeps after that. A step
never waits for it to wake up. Where another process holds the second core the helper comes too late, or is stopped
within a block of episodes, so that the caller waits for milliseconds: then the batch is stepped alone for a while.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import entry_point
from .records import OUTCOME, SENDING

USELESS = 16  # steps in a row without help after which the batch is stepped alone
# Steps alone before help is tried again; twice as many each time, fewer with each help.
SHORTEST, LONGEST = 64, 1024
_ENTRY: dict[str, Any] = {}  # compiled functions; their argument types never change
_FORKS = [0]  # forks that led to this process; threads do not survive them


def _count_fork() -> None:
    _FORKS[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class _Desk:
    """What a helper and its caller share; it knows neither the simulator nor its owner, so both can be forgotten."""

    def __init__(self, likes: tuple) -> None:
        from . import kernel_shared

        self.words = np.zeros(kernel_shared.WORDS, np.int64)
        self.awake, self.last_step = kernel_shared.AWAKE, kernel_shared.LAST_STEP
        self.likes = likes
        self.job: tuple[int, tuple] = (0, ())
        self.closing = False
        self.forks = _FORKS[0]
        self._bell = threading.Semaphore(0)

    def bind(self, arguments: tuple, abreast: int) -> None:
        """Give the helper the arrays that hold from now on, with scratch of its own."""
        mine = (*arguments[:-1], np.zeros(abreast, SENDING).view(np.recarray))
        self.job = (self.job[0] + 1, mine)

    def wake(self) -> None:
        """Rouse the helper, who will look for the latest job."""
        self.words[self.awake] = 1
        self._bell.release()

    def sleep(self) -> None:
        """Wait for `wake`."""
        self._bell.acquire()

    def close(self) -> None:
        """Let the helper end, if it lives in this process: a fork may have caught it holding the bell."""
        self.closing = True
        if self.forks == _FORKS[0]:
            self.wake()


def _help(desk: _Desk) -> None:
    """Life of a helper."""
    while not desk.closing:
        if desk.words[desk.awake]:
            number, arguments = desk.job
            _ENTRY["help"](desk.words, number, *arguments, *desk.likes)
            del arguments
        else:
            desk.sleep()


class HelperThread:
    """A thread that helps to step one batch.

    It starts with the first step and again after `close`, a fork or a copy; copies have a thread of their own.
    """

    def __init__(self, episodes: int, abreast: int, features: int) -> None:
        """Prepare for a batch; nothing runs yet."""
        self._sizes = (episodes, abreast, features)
        self._likes = (
            np.empty(episodes, np.int64),
            np.empty(episodes, OUTCOME),
            np.empty((episodes, features), np.float32),
            np.empty(episodes, np.bool_),
        )
        self._desk: _Desk | None = None
        self._arguments: tuple = ()
        self._step = self._useless = self._alone = 0
        self._pause = SHORTEST

    def __reduce__(self) -> tuple:
        return type(self), self._sizes

    def step(self, arguments: tuple, *outputs: npt.NDArray[Any]) -> bool:
        """Step the batch together.

        Args:
            arguments: those of `kernel.step_all` up to its scratch.
            outputs: actions, outcomes, observations, truncated.

        Returns:
            False, and nothing is done, if the caller had better do it alone.
        """
        if self._alone:
            self._alone -= 1
            return False
        desk = self._desk
        if desk is None or desk.forks != _FORKS[0]:
            desk = self._open(arguments, outputs)
        if arguments is not self._arguments:
            self._arguments = arguments
            desk.bind(arguments, self._sizes[1])
        if not desk.words[desk.awake]:
            desk.wake()
        self._step = (self._step + 1) & desk.last_step
        helped = _ENTRY["step"](desk.words, desk.job[0], self._step, *arguments, *outputs)
        if helped > 0:
            self._useless, self._pause = 0, max(self._pause - 1, SHORTEST)
            return True
        self._useless += 1
        if helped < 0 or self._useless == USELESS:
            self._useless, self._alone = 0, self._pause
            self._pause = min(2 * self._pause, LONGEST)
        return True

    def _open(self, arguments: tuple, outputs: tuple) -> _Desk:
        from . import kernel_shared

        self.close()
        desk = self._desk = _Desk(self._likes)
        desk.bind(arguments, self._sizes[1])
        self._arguments = arguments
        if not _ENTRY:
            words = (desk.words, 0)
            _ENTRY["step"] = entry_point(kernel_shared.step_shared, (*words, 0, *arguments, *outputs))
            _ENTRY["help"] = entry_point(kernel_shared.help_steps, (*words, *desk.job[1], *self._likes))
        threading.Thread(target=_help, args=(desk,), name="carbonpilot-helper", daemon=True).start()
        self._finalizer = weakref.finalize(self, desk.close)
        return desk

    def close(self) -> None:
        """End the thread; a later step starts another."""
        if self._desk is not None:
            self._finalizer()
            self._desk, self._arguments = None, ()
