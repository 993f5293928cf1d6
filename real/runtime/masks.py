"""Writes masks as PNG files, whole or not at all, in a thread of its own."""

from __future__ import annotations

import logging
import os
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ...envs.files import writing
from .story import Result

if TYPE_CHECKING:
    from ..interfaces import Mask

MOST_WAITING = 64  # masks; a disk slower than the frames costs masks, not memory

log = logging.getLogger(__name__)


class MaskWriter:
    """Takes results and writes the mask of frame 12 as 000000012.png; frames without a result have none.

    Attributes:
        written, lost: masks on the disk, and masks that found no room in the queue or on the disk.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be written.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "not writable", str(folder))
        self.folder, self.written, self.lost = folder, 0, 0
        self._queue: queue.Queue[tuple[int, Mask] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="mask-writer", daemon=True)
        self._thread.start()

    def take(self, result: Result) -> None:
        """Have the mask of a result written; never waits."""
        if result.answer is None:
            return
        try:
            self._queue.put_nowait((result.number, result.answer.mask))
        except queue.Full:
            self._lose("the disk is slower than the frames")

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits."""
        if self._thread.is_alive():
            self._queue.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            number, mask = item
            try:
                self._write(number, mask)
                self.written += 1
            except OSError as err:
                self._lose(err.strerror or type(err).__name__)

    def _write(self, number: int, mask: Mask) -> None:
        from PIL import Image

        path = self.folder / f"{number:09d}.png"
        temporary = path.with_name(f".{path.name}")
        try:
            Image.fromarray(mask).save(temporary, format="PNG")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost % 1000 == 1:
            log.error("Mask not written (%d so far): %s. Frames go on.", self.lost, why)
