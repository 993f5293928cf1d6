"""Patterns that name trace files and parts of them, e.g. ``network/us_drive_*.csv`` or ``FILE@0.0-0.6``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import InputError, nearest
from .folder import existing_folder, is_trace_name

_PART = re.compile(r"^(?P<low>\d*\.?\d+)-(?P<high>\d*\.?\d+)$")


@dataclass(frozen=True)
class FilePart:
    """A stretch of a file's rows.

    Attributes:
        path: the file.
        low: where the part begins, share of the rows.
        high: where it ends, share of the rows.
        pattern: index of the pattern that named it.
    """

    path: Path
    low: float
    high: float
    pattern: int

    def rows(self, count: int) -> slice:
        """The rows of this part in a file of ``count`` rows; parts that touch share no row."""
        return slice(round(self.low * count), round(self.high * count))


def file_parts(traces_dir: str | Path, patterns: Sequence[str]) -> list[FilePart]:
    """Resolve patterns to parts of files, in the order of the patterns and of the names.

    Args:
        traces_dir: the trace folder.
        patterns: globs below the folder, each with an optional ``@LOW-HIGH`` share of the file's rows.

    Raises:
        InputError: the folder does not exist, a pattern is malformed or matches nothing, or two patterns
            name the same rows (these would be drawn twice as often without anybody having said so).
    """
    folder = existing_folder(traces_dir)
    if not patterns:
        raise InputError(f"{folder}: no patterns given. Expected e.g. network/us_drive_*.csv.")
    parts = []
    for index, pattern in enumerate(patterns):
        glob, low, high = parse_pattern(pattern)
        found = [p for p in sorted(folder.glob(glob)) if is_trace_name(p)]
        if not found:
            names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if is_trace_name(p)]
            raise InputError(f"'{pattern}' matches no trace file below {folder}.{nearest(glob, names)}")
        parts += [FilePart(path, low, high, index) for path in found]
    twice = _overlaps(parts, parts)
    if twice:
        raise InputError(f"The patterns {list(patterns)} name the same rows twice: {twice[0]}.")
    return parts


def parse_pattern(pattern: str) -> tuple[str, float, float]:
    """Split a pattern into its glob and the share of rows that it takes.

    Raises:
        InputError: the share is malformed or empty, or the glob leaves the trace folder.
    """
    glob, at, share = pattern.rpartition("@")
    if not at:
        glob, low, high = pattern, 0.0, 1.0
    elif match := _PART.match(share):
        low, high = float(match["low"]), float(match["high"])
        if not 0 <= low < high <= 1:
            raise InputError(f"'{pattern}': the part {low:g}-{high:g} must satisfy 0 <= low < high <= 1.")
    else:
        raise InputError(f"'{pattern}': expected FILE@LOW-HIGH with shares of the rows, e.g. FILE@0.0-0.6.")
    pure = PurePosixPath(glob)
    if not glob or pure.is_absolute() or ".." in pure.parts:
        raise InputError(
            f"'{pattern}': expected a glob below the trace folder, without '..' or a leading '/'."
        )
    return glob, low, high


def assert_disjoint(training: Sequence[str], evaluation: Sequence[str], traces_dir: str | Path) -> None:
    """Refuse a split in which an evaluation pattern names rows that a training pattern names.

    Raises:
        InputError: names each file and the share of its rows that is in both.
    """
    both = _overlaps(file_parts(traces_dir, training), file_parts(traces_dir, evaluation))
    if both:
        raise InputError(
            "Training and evaluation traces overlap, so the evaluation would not be on unseen data: "
            f"{'; '.join(both)}. Take other files, or parts such as FILE@0.0-0.6 and FILE@0.6-1.0."
        )


def _overlaps(first: list[FilePart], second: list[FilePart]) -> list[str]:
    real = {part.path: part.path.resolve() for part in first + second}
    out = []
    for a in first:
        for b in second:
            if a is b:
                continue
            low, high = max(a.low, b.low), min(a.high, b.high)
            if real[a.path] == real[b.path] and low < high:
                out.append(f"{a.path}, share {low:g}-{high:g} ({high - low:.0%} of its rows)")
    return out
