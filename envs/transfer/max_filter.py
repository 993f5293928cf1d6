"""Kathleen Nichols' windowed maximum: the best three samples of a window (Linux lib/win_minmax.c)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .connection import F64


def update_max(
    best: F64, best_round: F64, now: F64, use: npt.NDArray[np.bool_], sample: F64, window: float
) -> None:
    """Take a sample into each filter, in place.

    Args:
        best: the three best samples, in descending order (M, 3); the first is the maximum.
        best_round: when they were taken (M, 3).
        now: the round (M,).
        use: whose sample counts (M,).
        sample: the samples (M,).
        window: rounds after which a sample is forgotten.
    """
    b, r = best, best_round
    fresh = use & ((sample >= b[:, 0]) | (now - r[:, 2] > window))
    second = use & ~fresh & (sample >= b[:, 1])
    third = use & ~fresh & ~second & (sample >= b[:, 2])
    b[fresh] = sample[fresh, None]
    r[fresh] = now[fresh, None]
    b[second, 1:] = sample[second, None]
    r[second, 1:] = now[second, None]
    b[third, 2] = sample[third]
    r[third, 2] = now[third]
    old = np.flatnonzero(use & ~fresh)
    for _ in range(2):
        old = old[now[old] - r[old, 0] > window]
        b[old, :2], r[old, :2] = b[old, 1:], r[old, 1:]
        b[old, 2], r[old, 2] = sample[old], now[old]
    aged = np.flatnonzero(use & ~fresh)
    age = now[aged] - r[aged, 0]
    quarter = aged[(age > window / 4) & (r[aged, 1] == r[aged, 0])]
    b[quarter, 1:], r[quarter, 1:] = sample[quarter, None], now[quarter, None]
    half = aged[(age > window / 2) & (r[aged, 2] == r[aged, 1])]
    b[half, 2], r[half, 2] = sample[half], now[half]
