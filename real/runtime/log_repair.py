"""What an earlier run left in a log folder: a torn last line to put aside, and where to go on."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...envs.errors import InputError
from ...envs.files import atomic_write_bytes, writing
from ..log_records import FrameRecord, Header, from_line
from .log_files import log_files

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Earlier:
    """What the runs before this one left.

    Attributes:
        next_frame: number of the next frame; 0 without a log.
        missed: whether each of the last frames missed, oldest first, at most as many as were asked for.
        scenario_sha256: of the log's site; None without a log.
    """

    next_frame: int = 0
    missed: tuple[bool, ...] = ()
    scenario_sha256: str | None = None


def repair(folder: Path) -> list[str]:
    """Put torn or unreadable ends of the log's files aside, as a crash leaves them; says what was done.

    The end of FILE.jsonl goes to FILE.torn, so nothing is lost and the log holds whole lines only.
    """
    told = []
    for path in log_files(folder):
        torn = _torn_bytes(path)
        if torn:
            told.append(_put_aside(path, torn))
    return told


def earlier(folder: Path, remember: int) -> Earlier:
    """Read what is needed to go on: the number of the last frame and the misses of the last ``remember`` frames.

    Raises:
        InputError: a line of the log is broken.
    """
    missed: deque[bool] = deque()
    next_frame, sha256 = 0, None
    for path in reversed(log_files(folder)):
        header, frames = _read(path)
        if sha256 is None and header is not None:
            sha256, next_frame = header.scenario_sha256, header.first_frame
        if frames:
            next_frame = max(next_frame, *(f.frame + 1 for f in frames))
        for frame in reversed(frames):
            if len(missed) < remember:
                missed.appendleft(frame.missed)
        if len(missed) >= remember:
            break
    return Earlier(next_frame, tuple(missed), sha256)


def check_same_site(before: Earlier, scenario_sha256: str, folder: Path) -> None:
    """Refuse to go on with the log of another site.

    Raises:
        InputError: the log in the folder was written for another scenario.
    """
    if before.scenario_sha256 not in (None, scenario_sha256):
        raise InputError(
            f"The log in {folder} was written for another site (scenario {before.scenario_sha256[:12]}, this one is "  # type: ignore[index]
            f"{scenario_sha256[:12]}; a new calibration makes a new one). Choose a new folder with --log."
        )


def _read(path: Path) -> tuple[Header | None, list[FrameRecord]]:
    header, frames = None, []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if '"kind":"frame"' in line[:20] or number == 1:
                record = from_line(line, f"{path}:{number}")
                if isinstance(record, Header):
                    header = record
                elif isinstance(record, FrameRecord):
                    frames.append(record)
    return header, frames


def _torn_bytes(path: Path) -> int:
    """Bytes at the end of a file that are no whole JSON line."""
    with open(path, "rb") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end > 0:
            start = _line_start(file, end)
            file.seek(start)
            if _whole(file.read(end - start)):
                break
            end = start
    return size - end


def _line_start(file: BinaryIO, end: int) -> int:
    """Where the line begins that ends before byte ``end``."""
    position = end - 1  # its own newline does not count
    while position > 0:
        step = min(_CHUNK, position)
        file.seek(position - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return position - step + found + 1
        position -= step
    return 0


def _whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _put_aside(path: Path, torn: int) -> str:
    with writing(path):
        keep = path.stat().st_size - torn
        with open(path, "rb") as file:
            file.seek(keep)
            atomic_write_bytes(path.with_suffix(".torn"), file.read())
        if keep:
            os.truncate(path, keep)
        else:
            path.unlink()
    return f"{path.name}: the last {torn} bytes are no whole line (a crash?); moved to {path.stem}.torn."
