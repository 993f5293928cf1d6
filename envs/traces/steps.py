"""The usual step of a row of times, and where it is not kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

GAP_FACTOR = 1.5  # a distance beyond this many steps is a gap: at least half a sample is missing (assumed)


@dataclass(frozen=True)
class Gap:
    """A stretch without rows: ``row`` is the first one after it, ``missing_s`` the uncovered time."""

    row: int
    missing_s: float


def usual_step(time_s: F64, single: float) -> float:
    """The most frequent distance between neighbours, s; ``single`` where there is only one row."""
    steps = np.diff(time_s)
    steps = steps[steps > 0]
    if not len(steps):
        return single
    distances, counts = np.unique(np.round(steps, 3), return_counts=True)
    return float(distances[counts.argmax()])


def gaps(time_s: F64, step_s: float) -> list[Gap]:
    """Stretches in which rows are missing."""
    steps = np.diff(time_s)
    return [Gap(int(i) + 1, float(steps[i] - step_s)) for i in np.flatnonzero(steps > GAP_FACTOR * step_s)]


def uneven(time_s: F64, step_s: float) -> npt.NDArray[np.intp]:
    """Rows that follow their neighbour neither one step later nor after a gap."""
    steps = np.diff(time_s)
    return (
        np.flatnonzero(
            (np.abs(steps - step_s) > 0.01 * step_s) & (steps > 0) & (steps <= GAP_FACTOR * step_s)
        )
        + 1
    )


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first row, length) of every stretch in which ``mask`` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def repeats(values: F64) -> list[tuple[int, int]]:
    """(first row, length) of every stretch of two or more equal measured values."""
    same = np.concatenate([[False], values[1:] == values[:-1]])
    return [(first - 1, length + 1) for first, length in runs(same)]
