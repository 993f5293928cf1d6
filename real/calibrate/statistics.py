"""Estimates with 95 % intervals: means, quantiles, shares, a lognormal service time, a line through batch times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

RESAMPLES = 1000
ROBUST = 1.4826  # standard deviations in a median absolute deviation, of a normal distribution
FAR = 4.0
_Z95 = NormalDist().inv_cdf(0.95)
_Z975 = NormalDist().inv_cdf(0.975)
LEAST_SPREAD = 1.0001  # p95 over p50 of a time that does not move at all; a lognormal needs some


@dataclass(frozen=True)
class Estimate:
    """A number with the bounds of its 95 % interval and the observations behind it."""

    value: float
    low: float
    high: float
    count: int


def bootstrapped(values: npt.ArrayLike, of: Callable[..., F64], block: int = 1, seed: int = 0) -> Estimate:
    """Percentile bootstrap (Efron 1979), of blocks where neighbours are alike (Kuensch 1989).

    Args:
        values: observations in their order (n,).
        of: statistic along an axis, as ``np.mean``.
        block: neighbours that are drawn together.
        seed: of the resampling.
    """
    data = np.asarray(values, dtype=np.float64)
    draws = np.asarray(of(data[_redrawn(data.size, block, seed)], axis=1))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(of(data, axis=0)), float(low), float(high), data.size)


def _redrawn(count: int, block: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of resampled observations (RESAMPLES, count), neighbours together."""
    block = max(1, min(block, count))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count - block + 1, (RESAMPLES, math.ceil(count / block)))
    return (starts[..., None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count]


def without_outliers(values: F64, among: F64 | None = None) -> F64:
    """Values brought within four robust standard deviations of the median (of ``among``).

    A probe that waited for a processor tells nothing of the link, and no normal jitter goes so far.
    """
    sample = values if among is None else among
    middle = float(np.median(sample))
    spread = ROBUST * float(np.median(np.abs(sample - middle)))
    return np.clip(values, middle - FAR * spread, middle + FAR * spread)


def share(hits: int, count: int) -> Estimate:
    """A share with Wilson's interval (Wilson 1927), which is honest about no hit among many."""
    if count < 1:
        raise ValueError("a share needs at least one observation")
    p, z = hits / count, _Z975
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return Estimate(p, max(middle - half, 0.0), min(middle + half, 1.0), count)


def lognormal(values: npt.ArrayLike, block: int = 1, seed: int = 0) -> tuple[Estimate, Estimate]:
    """Median and 95th percentile of the lognormal that has the sample's mean and 95th percentile.

    Mean and p95 are what latency and objective are judged by, so the fit keeps these two; its median is near the
    sample's only where the times really are lognormal. With s = ln(p95 / mean), sigma solves z sigma - sigma^2 / 2 = s.
    Intervals are drawn from blocks of neighbours, see `bootstrapped`.
    """
    data = np.asarray(values, dtype=np.float64)
    draws = np.array([_fit(row) for row in data[_redrawn(data.size, block, seed)]])
    (low50, low95), (high50, high95) = np.quantile(draws, [0.025, 0.975], axis=0)
    p50, p95 = _fit(data)
    return (
        Estimate(p50, float(low50), float(high50), data.size),
        Estimate(p95, float(low95), float(high95), data.size),
    )


def _fit(data: F64) -> tuple[float, float]:
    mean, p95 = float(data.mean()), float(np.quantile(data, 0.95))
    s = math.log(max(p95 / mean, 1.0))
    if p95 <= mean:  # a few enormous outliers: no lognormal is so; keep the mean with no spread
        return mean, mean * LEAST_SPREAD
    sigma = _Z95 - math.sqrt(max(_Z95 * _Z95 - 2 * s, 0.0))
    p50 = mean * math.exp(-sigma * sigma / 2)
    return p50, max(p50 * math.exp(_Z95 * sigma), p50 * LEAST_SPREAD)


def marginal_share(sizes: npt.ArrayLike, times_ms: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Share m of time(b) = alone x (1 + m (b - 1)), by least squares through the times of batches.

    Args:
        sizes: images of each batch (n,); at least two different ones.
        times_ms: time of each batch (n,).
        seed: of the bootstrap.
    """
    b, t = np.asarray(sizes, dtype=np.float64), np.asarray(times_ms, dtype=np.float64)
    rng = np.random.default_rng(seed)
    draws = []
    while len(draws) < RESAMPLES:
        pick = rng.integers(0, b.size, b.size)
        if np.unique(b[pick]).size > 1:
            draws.append(_share(b[pick], t[pick]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(_share(b, t), float(low), float(high), b.size)


def _share(b: F64, t: F64) -> float:
    slope, alone = np.polyfit(b - 1.0, t, 1)
    return float(np.clip(slope / alone, 0.0, 1.0)) if alone > 0 else 1.0


def uniform_range(values: npt.ArrayLike, seed: int = 0) -> tuple[Estimate, Estimate]:
    """Bounds of the uniform distribution with the sample's mean and spread, within what was seen."""
    data = np.asarray(values, dtype=np.float64)
    half = math.sqrt(3.0) * float(data.std())
    mean, low, high = float(data.mean()), float(data.min()), float(data.max())
    error = bootstrapped(data, np.mean, seed=seed)
    bounds = (max(mean - half, low), min(mean + half, high))
    return tuple(  # type: ignore[return-value]
        Estimate(v, v + error.low - mean, v + error.high - mean, data.size) for v in bounds
    )
