"""Statistics that both the fit and its page need: autocorrelation within pieces, scores by rank, memory."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from .fit_samples import F64
from .score_tables import smoothed_acf

QUANTILES = (5, 25, 50, 75, 95, 99)


def quantiles(values: F64) -> dict[int, float]:
    """Percentiles p5 ... p99 of what is measured (NaN left out)."""
    return dict(zip(QUANTILES, np.nanpercentile(values, QUANTILES).tolist(), strict=True))


def acf(values: npt.ArrayLike, piece: npt.ArrayLike, lags: tuple[int, ...]) -> dict[int, float | None]:
    """Autocorrelation around the mean of everything, from pairs inside one piece only.

    Args:
        values: (N,), NaN where not measured.
        piece: (N,) number of the uninterrupted piece.
        lags: steps apart.

    Returns:
        lag -> correlation, None where fewer than 30 pairs exist.
    """
    x, piece = np.asarray(values, dtype=np.float64), np.asarray(piece)
    x = x - np.nanmean(x)
    variance = np.nanmean(x * x)
    out: dict[int, float | None] = {}
    for lag in lags:
        product = (x[:-lag] * x[lag:])[piece[:-lag] == piece[lag:]]
        product = product[np.isfinite(product)]
        out[lag] = float(product.mean() / variance) if product.size >= 30 else None
    return out


def normal_scores(values: F64) -> F64:
    """Standard normal score of each value's rank (van der Waerden); ties share their middle rank."""
    ordered = np.sort(values)
    rank = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2.0
    inverse = NormalDist().inv_cdf
    return np.array([inverse(p) for p in np.clip(rank / values.size, 1e-4, 1 - 1e-4)])


def fit_memory(
    observed: dict[int, float | None], slows: F64, smoothings: F64
) -> tuple[float, float, float, float]:
    """Least squares fit of share x (autocorrelation of the smoothed AR(1)), a grid over its two roots.

    Returns:
        share, slow and smoothing correlation per step, and the root mean square error.
    """
    lags = np.array([lag for lag, value in observed.items() if value is not None])
    target = np.array([value for value in observed.values() if value is not None])
    best = (0.0, 0.0, 0.0, float("inf"))
    for slow, smoothing in itertools.product(slows, smoothings):
        if smoothing > slow:
            continue
        shape = smoothed_acf(float(slow), float(smoothing), lags)
        share = float(np.clip(shape @ target / max(shape @ shape, 1e-12), 0.0, 1.0))
        error = float(np.sqrt(np.mean((share * shape - target) ** 2)))
        if error < best[3] - 1e-6:
            best = (share, float(slow), float(smoothing), error)
    return best


def fit_two_memories(observed: dict[int, float | None]) -> tuple[float, float, float]:
    """Least squares fit of share x slow^lag + (1 - share) x fast^lag.

    Returns:
        share of the slow part, slow and fast correlation per step.
    """
    lags = np.array([lag for lag, value in observed.items() if value is not None], dtype=np.float64)
    target = np.array([value for value in observed.values() if value is not None])
    best, least = (0.0, 0.0, 0.0), float("inf")
    slows = np.exp(-1.0 / np.geomspace(10.0, 1500.0, 40))
    fasts = np.exp(-1.0 / np.geomspace(0.5, 60.0, 40))
    for slow, fast in itertools.product(slows, fasts):
        if fast >= slow:
            continue
        difference = slow**lags - fast**lags
        share = float(np.clip(difference @ (target - fast**lags) / (difference @ difference), 0.0, 1.0))
        error = float(np.mean((share * difference + fast**lags - target) ** 2))
        if error < least:
            best, least = (share, float(slow), float(fast)), error
    return best
