"""The device's one worker: all that computes there takes turns in it, whole models and the starts of split ones."""

from __future__ import annotations

from .worker import Worker


class Device:
    """Opened for the first that needs it, closed when the last has let it go."""

    def __init__(self) -> None:
        """Nobody computes so far."""
        self._worker: Worker | None = None
        self._users = 0

    def open(self) -> Worker:
        """Begin to use it."""
        if self._worker is None:
            self._worker = Worker("the device")
        self._users += 1
        return self._worker

    def close(self) -> None:
        """Use it no more."""
        self._users = max(self._users - 1, 0)
        if self._users == 0 and self._worker is not None:
            self._worker.close()
            self._worker = None
