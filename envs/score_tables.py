"""Distributions kept as tables over the normal score, and the correlated scores that read them.

A marginal distribution is 25 quantiles, those at the standard normal scores -3.0, -2.75 ... 3.0 (the 0.13 %
to the 99.87 % quantile), with straight lines between; beyond them the end values hold. A correlated
standard normal sequence read through such a table has exactly that marginal: a Gaussian copula.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .compiling import compiled
from .world_types import F32

SCORES = np.linspace(-3.0, 3.0, 25)
_STEPS_PER_SCORE = np.float32(4.0)
_LAST = np.float32(23.9999)  # just inside the last of the 24 intervals


def normal_cdf(score: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Probability below a standard normal score."""
    return np.array([0.5 * (1.0 + math.erf(s / math.sqrt(2.0))) for s in np.ravel(score)])


def quantile_table(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The 25 quantiles of a sample (N,) that `read_table` interpolates."""
    return np.quantile(np.asarray(values, dtype=np.float64), normal_cdf(SCORES))


def read_table(tables: F32, row: npt.NDArray[np.intp], score: F32) -> F32:
    """Value at a normal score.

    Args:
        tables: flat float32, 25 values a row.
        row: which row to read, any shape that broadcasts with ``score``.
        score: standard normal scores.
    """
    position: F32 = np.clip((score + np.float32(3.0)) * _STEPS_PER_SCORE, np.float32(0.0), _LAST)
    cell = position.astype(np.intp)
    position -= cell.astype(np.float32)
    cell += row * SCORES.size
    low: F32 = tables.take(cell)
    cell += 1
    high: F32 = tables.take(cell)
    high -= low
    high *= position
    high += low
    return high


def smoothed_gain(slow: npt.ArrayLike, smoothing: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Factor that keeps y_t = smoothing y_(t-1) + gain x_t at unit variance, x an AR(1) of unit variance.

    The variance without it is (1 + ps) / ((1 - ps)(1 - s^2)): Box, Jenkins, Reinsel, Time Series Analysis,
    section 3.2.4, for an AR(2) with roots p = slow and s = smoothing.
    """
    p, s = np.asarray(slow, dtype=np.float64), np.asarray(smoothing, dtype=np.float64)
    return np.sqrt((1.0 - p * s) * (1.0 - s * s) / (1.0 + p * s))


def smoothed_acf(slow: float, smoothing: float, lags: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Autocorrelation of that y at the given lags (the AR(2) with two real roots, same source)."""
    k = np.asarray(lags, dtype=np.float64)
    p, s = slow, smoothing
    if s == 0.0:
        return p**k
    if abs(p - s) < 1e-9:
        return p**k * (1.0 + k * (1.0 - p * p) / (1.0 + p * p))
    return (p ** (k + 1) * (1 - s * s) - s ** (k + 1) * (1 - p * p)) / ((p - s) * (1 + p * s))


def smoothed_paths(innovations: F32, start: F32, slow: F32, smoothing: F32) -> F32:
    """Stationary paths of unit variance of that y.

    Args:
        innovations: standard normals (S, ...).
        start: standard normals (2, ...) for the state before the first step.
        slow: correlation of the driving AR(1) from one step to the next (...), in [0, 1).
        smoothing: second root (...), in [0, 1); 0 leaves the plain AR(1).

    Returns:
        (S, ...) float32, each episode's path depending on its own draws only.
    """
    gain = smoothed_gain(slow, smoothing).astype(np.float32)
    # At rest the two are correlated: cov(x, y) = gain / (1 - slow smoothing).
    shared = gain / (np.float32(1.0) - slow * smoothing)
    x = start[0].copy()
    y = shared * x + np.sqrt(np.maximum(np.float32(1.0) - shared * shared, np.float32(0.0))) * start[1]
    pushes = innovations * np.sqrt(np.float32(1.0) - slow * slow)
    columns = (
        np.ascontiguousarray(np.broadcast_to(v, x.shape), dtype=np.float32).ravel()
        for v in (slow, smoothing, gain)
    )
    paths = np.ascontiguousarray(pushes)
    _follow(paths.reshape(len(paths), -1), x.ravel(), y.ravel(), *columns)
    return paths


@compiled
def _follow(paths: F32, x: F32, y: F32, slow: F32, smoothing: F32, gain: F32) -> None:
    """Turn pushes (S, C) into the paths that they drive, in place, from the states x and y (C,)."""
    for t in range(paths.shape[0]):
        for c in range(paths.shape[1]):
            x[c] = x[c] * slow[c] + paths[t, c]
            y[c] = y[c] * smoothing[c] + x[c] * gain[c]
            paths[t, c] = y[c]
