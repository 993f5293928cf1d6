"""Writes records in a thread of its own, so that no frame ever waits for the disk."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..clock import Clock
from ..log_records import EventRecord, Record, to_line
from .log_files import LogFiles

MOST_WAITING = 20_000  # records that the thread has not come to yet
MOST_HELD_BYTES = 8_000_000  # lines kept while the disk is full: about ten minutes of ten frames a second
RETRY_S = 1.0
SYNC_S = 1.0  # what a power cut may cost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogState:
    """How writing goes.

    Attributes:
        written: lines on the disk.
        held: lines that wait for room on the disk.
        dropped: lines that nobody will ever see.
        trouble: what the file system says; None while it writes.
    """

    written: int
    held: int
    dropped: int
    trouble: str | None


class LogWriter:
    """Takes records from any thread and writes them as lines.

    While the disk refuses, lines are held up to a bound and written when it accepts again; beyond the bound they are
    dropped, oldest first, and an event in the log says how many.

    Args:
        files: where to.
        clock: for the events of the writer itself.
        started_s: the clock's monotonic time from which the log counts.
        also: further takers of each record, called in the writer's thread.
        most_held_bytes: bound of what is held.
    """

    def __init__(
        self,
        files: LogFiles,
        clock: Clock,
        started_s: float,
        also: Sequence[Callable[[Record], None]] = (),
        most_held_bytes: int = MOST_HELD_BYTES,
    ) -> None:
        self._files, self._clock, self._started_s, self._also = files, clock, started_s, list(also)
        self._most_held_bytes = most_held_bytes
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._held: deque[bytes] = deque()
        self._held_bytes = self._written = self._untold = 0
        self._refused = 0  # by `put`, whose callers are many; under the lock
        self._dropped = 0
        self._lock = threading.Lock()
        self._trouble: str | None = None
        self._unsynced, self._synced_s = False, 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> LogWriter:
        """Begin to write; returns itself."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        return self

    def put(self, record: Record) -> None:
        """Have a record written; never waits."""
        if self._queue.qsize() >= MOST_WAITING:
            with self._lock:
                self._refused += 1
            return
        self._queue.put(record)

    @property
    def state(self) -> LogState:
        """How it goes; never waits."""
        return LogState(self._written, len(self._held), self._dropped + self._refused, self._trouble)

    def close(self, timeout_s: float = 10.0) -> LogState:
        """Write what is left, close the files, and say how it went; what finds no room now is dropped."""
        thread, self._thread = self._thread, None
        if thread is None:
            self._files.close()  # it never began, or was closed before
        else:
            self._queue.put(None)
            thread.join(timeout_s)
            if thread.is_alive():
                log.error("The disk of %s hangs: the last lines of the log are lost.", self._files.folder)
        return self.state

    def _run(self) -> None:
        try:
            while self._step():
                pass
            self._write_held()
            if self._held:
                self._dropped += len(self._held)
                self._held.clear()
                log.error("%d lines of the log are lost: %s.", self._dropped, self._trouble)
        finally:
            self._files.close()

    def _step(self) -> bool:
        """Take the next record; False after the last one."""
        try:
            record = self._queue.get(timeout=RETRY_S)
        except queue.Empty:
            self._write_held()
            self._sync()
            return True
        if record is None:
            return False
        self._take(record)
        self._sync()
        return True

    def _take(self, record: Record) -> None:
        self._write_held()  # room for what waits may be there again
        if self._untold_losses() and not self._held:
            self._tell_losses()
        self._hold(line_of(record))
        self._write_held()
        for taker in self._also:
            try:
                taker(record)
            except Exception:
                log.exception("A taker of log records failed; the log itself goes on.")

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_bytes += len(line)
        while self._held_bytes > self._most_held_bytes and len(self._held) > 1:
            self._held_bytes -= len(self._held.popleft())
            self._dropped += 1
            if self._dropped % 1000 == 1:
                log.error("The log's disk is full for too long: %d lines dropped so far.", self._dropped)

    def _write_held(self) -> None:
        while self._held:
            try:
                self._files.write(self._held[0])
            except OSError as err:
                self._note(err)
                return
            self._held_bytes -= len(self._held.popleft())
            self._written += 1
            self._unsynced = True
        if self._trouble is not None:
            log.warning("The log is written again (%d lines dropped).", self._dropped)
            self._trouble = None

    def _note(self, err: OSError) -> None:
        if self._trouble is None:
            said = err.strerror or type(err).__name__
            log.error(
                "Cannot write the log in %s: %s. Frames go on; lines are held in memory. Free some space.",
                self._files.folder,
                said,
            )
            self._trouble = said

    def _untold_losses(self) -> int:
        return self._dropped + self._refused - self._untold

    def _tell_losses(self) -> None:
        lost, self._untold = self._untold_losses(), self._dropped + self._refused
        now_ms = (self._clock.monotonic_s() - self._started_s) * 1000
        detail = f"{lost} lines could not be kept while the disk refused"
        event = EventRecord(
            time_ms=now_ms,
            utc=self._clock.utc().isoformat(),
            event="log-lines-lost",
            subject="log",
            detail=detail,
        )
        self._hold(line_of(event))

    def _sync(self) -> None:
        now_s = time.monotonic()
        if self._unsynced and now_s - self._synced_s >= SYNC_S:
            self._synced_s = now_s
            try:
                self._files.sync()
                self._unsynced = False
            except OSError as err:
                self._note(err)


def line_of(record: Record) -> bytes:
    """A record's line; a number that cannot be is written as null rather than losing the line."""
    try:
        return to_line(record).encode()
    except ValueError:
        log.error("A %s record held a number that is none; it is written as null.", record.kind)
        return to_line(type(record)(**_finite(asdict(record)))).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
