"""Roots of functions of one number where there is no formula for them: scans of arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..envs.queueing import Values
from .breakeven_world import F64

GRID = 513  # points of a scan; a second one between two of them finds the root to about 1e-5 of the range


def scan_root(difference: Callable[[Values], F64], low: float, high: float, log: bool = False) -> float:
    """First root of a function of arrays between two bounds, by two scans; NaN where there is none."""
    points = (np.geomspace if log else np.linspace)(low, high, GRID)
    for _ in range(2):
        values = np.broadcast_to(difference(points), points.shape)
        known = ~np.isnan(values)  # not where both queues grow for ever
        root = first_sign_change(points[known], np.nan_to_num(values[known], posinf=1e300, neginf=-1e300))
        if not np.isfinite(root):
            return np.nan
        i = int(np.clip(np.searchsorted(points, root, side="right") - 1, 0, GRID - 2))
        points = np.linspace(points[max(i - 1, 0)], points[min(i + 2, GRID - 1)], GRID)
    return root


def first_sign_change(x: F64, y: F64) -> float:
    """Where straight lines through (x, y) first change sign; NaN where they never do."""
    sign = np.sign(y)
    changes = np.flatnonzero((sign[:-1] * sign[1:] <= 0) & (sign[:-1] != sign[1:]))
    if not changes.size:
        return np.nan
    i = int(changes[0])
    if not (np.isfinite(y[i]) and np.isfinite(y[i + 1])):  # a queue that grows for ever lies between
        return float(x[i] if np.isfinite(y[i]) else x[i + 1])
    return float(x[i] + (x[i + 1] - x[i]) * y[i] / (y[i] - y[i + 1]))
