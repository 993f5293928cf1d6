"""The files of a log folder: numbered, each with a header, each of whole lines only."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import replace
from pathlib import Path

from ...envs.errors import InputError
from ...envs.files import writing
from ..log_records import Header, to_line

LOCK = ".lock"  # held by the process that writes here


class LogFiles:
    """Appends lines to the newest file and begins the next one when it is full.

    For one thread. A line that could not be written whole is taken back, so that every file ends with a whole line.

    Args:
        folder: of the log; one process at a time writes there.
        header: of this run; its ``part`` is set for each file.
        max_bytes: a file that would grow beyond it is followed by the next one.
        keep: files to keep, the oldest are deleted; None: all.
        locked: the caller holds the folder (`lock_folder`); otherwise it is held here.

    Raises:
        InputError: the folder cannot be written, or another process writes there.
    """

    def __init__(
        self, folder: Path, header: Header, max_bytes: int, keep: int | None = None, locked: bool = False
    ) -> None:
        if max_bytes < 1 or (keep is not None and keep < 1):
            raise InputError(
                f"A log file holds at least 1 byte and 1 file is kept, got {max_bytes} and {keep}."
            )
        self.folder, self.max_bytes, self.keep = folder, max_bytes, keep
        self._header = header
        self._part = header.part
        self._file: int | None = None
        self._size = self._begun = 0  # bytes in the file, and of its header
        self._lock: int | None = None if locked else lock_folder(folder)

    def write(self, line: bytes) -> None:
        """Append one line with its newline.

        Raises:
            OSError: it could not be written whole; nothing of it is in the file then.
        """
        if self._file is not None and self._size + len(line) > self.max_bytes and self._size > self._begun:
            self._end()
        if self._file is None:
            self._begin()
        self._append(line)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._file is not None:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file and let others write here; harmless when called twice."""
        self._end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _begin(self) -> None:
        """Open the next file and write its header; without room for it there is no file."""
        path = self.folder / f"{next_number(self.folder):06d}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = self._begun = 0
        try:
            self._append(to_line(replace(self._header, part=self._part)).encode())
        except OSError:
            self._end()
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._begun = self._size
        self._part += 1
        self._forget_old()

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        try:
            written = os.write(self._file, line)  # one call, so that a reader never sees half a line for long
            if written < len(line):
                written += os.write(self._file, line[written:])  # the disk is filling up: this tells why
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += written

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.fdatasync(file)
            os.close(file)

    def _forget_old(self) -> None:
        if self.keep is not None:
            for path in log_files(self.folder)[: -self.keep]:
                with contextlib.suppress(OSError):
                    path.unlink()


def log_files(folder: Path) -> list[Path]:
    """The files of a log folder in the order in which they were written."""
    return sorted(folder.glob("*.jsonl"))


def next_number(folder: Path) -> int:
    """Number of the next file; names sort in the order of writing, whatever the calendar clock did meanwhile."""
    numbers = [int(path.stem) for path in log_files(folder) if path.stem.isdigit()]
    return max(numbers, default=0) + 1


def lock_folder(folder: Path) -> int:
    """Hold a log folder for this process; returns the descriptor that holds it.

    Raises:
        InputError: the folder cannot be written, or another process holds it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InputError(
            f"Another carbonpilot writes its log to {folder}. Stop it, or choose another folder with --log."
        ) from None
    return lock
