"""Recorded grids as a library of hours that episodes are cut from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..streams import Stream
from .columns import instant
from .patterns import file_parts
from .readers import read_grid
from .records import F64, GridTrace
from .steps import runs

HOUR_S = 3600
HOURS_PER_DAY = 24


class GridWindows(NamedTuple):
    """Windows of consecutive hours.

    Attributes:
        truth_g_per_kwh: measured or estimated intensity (H, B) float32.
        start_unix_s: start of the first hour (B,), s since 1970 UTC.
        estimated: hours that the source marks as estimated (H, B).
    """

    truth_g_per_kwh: npt.NDArray[np.float32]
    start_unix_s: F64
    estimated: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GridLibrary:
    """Hours of several zones end to end; windows never touch an hour that was not measured.

    Attributes:
        carbon_g_per_kwh: intensity (N,) float32, every hour measured or estimated.
        unix_hour: hours since 1970 UTC (N,).
        estimated: the source says so (N,).
        start: first row of each uninterrupted stretch (P,).
        length: its rows (P,).
        file: index of the file that it is from (P,).
        files: the files.
    """

    carbon_g_per_kwh: npt.NDArray[np.float32]
    unix_hour: npt.NDArray[np.int64]
    estimated: npt.NDArray[np.bool_]
    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    file: npt.NDArray[np.int64]
    files: tuple[str, ...]
    _kept: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def load(
        cls,
        traces_dir: str | Path,
        patterns: Sequence[str],
        before: str | None = None,
        from_: str | None = None,
    ) -> GridLibrary:
        """Read the files that the patterns name and keep the hours that may be used.

        Args:
            traces_dir: the trace folder.
            patterns: globs below it, each with an optional ``@LOW-HIGH`` share of the rows.
            before: ISO 8601; only hours that end at or before it.
            from_: ISO 8601; only hours that start at or after it.

        Raises:
            InputError: nothing matches, no hour is left in a file, or a file is coarser than hourly.
            TraceError: a file is broken.
        """
        low = -np.inf if from_ is None else _hour(from_, "from_")
        high = np.inf if before is None else _hour(before, "before")
        if low >= high:
            raise InputError(f"No hour starts at or after {from_} and ends by {before}.")
        values, hours, flags, pieces, files = [], [], [], [], []
        offset = 0
        for part in file_parts(traces_dir, patterns):
            hour, value, flag = _hourly(read_grid(part.path), part.rows)
            keep = (hour >= low) & (hour < high)
            hour, value, flag = hour[keep], value[keep], flag[keep]
            if np.isnan(value).all():
                said = f"from {from_ or 'its start'} before {before or 'its end'}"
                raise InputError(f"{part.path}: no measured hour {said}. Choose another file or other dates.")
            breaks = np.flatnonzero(np.diff(hour) != 1) + 1
            bounds = [0, *breaks.tolist(), len(hour)]
            for a, b in itertools.pairwise(bounds):
                pieces += [(offset + a + s, n, len(files)) for s, n in runs(~np.isnan(value[a:b]))]
            values.append(value)
            hours.append(hour)
            flags.append(flag)
            files.append(str(part.path))
            offset += len(hour)
        start, length, file = np.array(pieces, dtype=np.int64).T
        carbon = np.concatenate(values).astype(np.float32)
        return cls(carbon, np.concatenate(hours), np.concatenate(flags), start, length, file, tuple(files))

    def draw(
        self, stream: Stream, hours: int, batch: int, start_hour: npt.NDArray[np.int64] | None = None
    ) -> GridWindows:
        """Cut a window of consecutive hours for each episode; each file, then each window is equally likely.

        Args:
            stream: random stream of the zone, for ``batch`` episodes.
            hours: hours wanted.
            batch: number of episodes.
            start_hour: a clock (B,) that the zones of an episode share, hours. Windows then start at the UTC
                hour of the day ``start_hour % 24``, on the file's ``start_hour // 24``-th possible day
                (counted round), so zones whose files cover the same dates are read at the same moment.

        Raises:
            InputError: a file has no stretch of so many hours.
        """
        if batch != stream.keys.size:
            raise ValueError(f"the stream is for {stream.keys.size} episodes, asked for {batch}")
        starts, edges = self._starts(hours)
        file = stream.integers(len(self.files))
        if start_hour is None:
            begin, end = edges[file * HOURS_PER_DAY], edges[(file + 1) * HOURS_PER_DAY]
            first = starts[begin + (stream.uniform().astype(np.float64) * (end - begin)).astype(np.int64)]
        else:
            clock = np.asarray(start_hour, dtype=np.int64)
            wanted = file * HOURS_PER_DAY + clock % HOURS_PER_DAY
            count = edges[wanted + 1] - edges[wanted]
            if not count.all():
                short = self.files[int(file[count.argmin()])]
                raise InputError(f"{short}: no window starts at some hours of the day; allow more dates.")
            first = starts[edges[wanted] + clock // HOURS_PER_DAY % count]
        rows = first + np.arange(hours)[:, None]
        return GridWindows(
            self.carbon_g_per_kwh[rows],
            (self.unix_hour[first] * HOUR_S).astype(np.float64),
            self.estimated[rows],
        )

    def _starts(self, hours: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows at which a window may start, sorted by file, UTC hour of the day and date.

        With them where each (file, hour of the day) begins (24 x files + 1,). Kept: every reset asks again.
        """
        if hours not in self._kept:
            rows = np.concatenate(
                [
                    np.arange(start, start + length - hours + 1)
                    for start, length in zip(self.start.tolist(), self.length.tolist(), strict=True)
                ]
            )
            owner = self.file[np.searchsorted(self.start, rows, side="right") - 1]
            for index in set(range(len(self.files))) - set(owner.tolist()):
                raise InputError(
                    f"{self.files[index]}: no {hours} measured hours in a row in the allowed dates."
                )
            group = owner * HOURS_PER_DAY + self.unix_hour[rows] % HOURS_PER_DAY
            order = np.argsort(group, kind="stable")
            edges = np.searchsorted(group[order], np.arange(len(self.files) * HOURS_PER_DAY + 1))
            self._kept[hours] = rows[order], edges
        return self._kept[hours]


def _hour(iso: str, what: str) -> float:
    try:
        return instant(iso) / HOUR_S
    except ValueError:
        raise InputError(f"{what} = '{iso}': expected ISO 8601, e.g. 2022-09-24T00:00:00Z.") from None


def _hourly(trace: GridTrace, part: Callable[[int], slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hour since 1970, mean intensity, estimated) of each full hour; NaN where a sample is missing."""
    if trace.step_s > HOUR_S or HOUR_S % trace.step_s:
        raise InputError(
            f"{trace.file}: a step of {trace.step_s:g} s hides the day; give an hourly or finer file."
        )
    trace.truth()  # refuses files that hold forecasts only
    rows = part(len(trace.unix_s))
    unix_s, value, flag = trace.unix_s[rows], trace.carbon_g_per_kwh[rows], trace.estimated[rows]
    hour, index = np.unique(np.floor(unix_s / HOUR_S).astype(np.int64), return_inverse=True)
    per_hour = round(HOUR_S / trace.step_s)
    mean = np.bincount(index, weights=value) / per_hour
    mean[np.bincount(index) != per_hour] = np.nan
    return hour, mean, np.bincount(index, weights=flag) > 0
