"""Intervals over episodes: a paired bootstrap, and Wilson's interval for shares of episodes.

The tapes are the sample: an interval says how far the numbers would move on other tapes of the same
scenario. It says nothing about training noise; for that, train several seeds (`seed_bootstrap`).

The bootstrap is our own and not scipy's, because a benchmark runs with the base install, and because all
policies and differences share one set of resamples; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
CONFIDENCE = 0.95
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf((1 + CONFIDENCE) / 2)

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it does not exist."""

    mean: float | None
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The form of the JSON contract."""
        return {"mean": self.mean, "ci95": [self.low, self.high]}


class PairedBootstrap:
    """One set of resamples of the episodes, used for every policy and every difference.

    Because all policies played the same tapes, the noise of a tape being hard or easy falls out of their
    differences. Intervals are bias-corrected and accelerated (BCa: Efron 1987, doi 10.2307/2289144).

    Args:
        episodes: number of episodes B. With fewer than two there are estimates but no intervals.
        seed: seed of the resampling.
        resamples: number of resamples R.
    """

    def __init__(self, episodes: int, seed: int, resamples: int = RESAMPLES) -> None:
        """Draw the resamples as counts of the episodes (B, R)."""
        self.episodes, self.seed = episodes, seed
        counts = np.random.default_rng(seed).multinomial(
            episodes, np.full(episodes, 1 / episodes), size=resamples
        )
        # One row per episode: sums over episodes then run along memory.
        self._counts = np.ascontiguousarray(counts.T.astype(np.int16 if episodes < 2**15 else np.int32))
        self._weights = np.ascontiguousarray(counts.T / episodes)

    def means(self, values: F64) -> F64:
        """Mean of a metric on every resample: (B,) to (R,), (S, B) to (S, R)."""
        # Not a BLAS product: so small a one is spread over all cores, and takes longer where they are busy.
        return np.einsum("...b,br->...r", values, self._weights)

    def mean(self, values: F64) -> Estimate:
        """Mean of an episode metric (B,)."""
        return self.of_means(lambda m: m, values)

    def difference(self, values: F64, others: F64) -> Estimate:
        """Mean of values - others (B,), paired by episode."""
        return self.of_means(lambda a, b: a - b, values, others)

    def of_means(self, statistic: Callable[..., Any], *values: F64) -> Estimate:
        """Any function of the means of episode metrics.

        Args:
            statistic: takes one mean per metric, as numbers or as arrays of one shape; element by element.
            values: the metrics, each (B,).

        Returns:
            The estimate; without a mean where the statistic does not exist (a ratio to nothing), and without an
            interval where it does not exist on some resample.
        """
        x = np.stack(values).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # x / 0 is answered below, not hidden
            point = float(statistic(*x.mean(axis=1)))
            if self.episodes < 2 or not math.isfinite(point):
                return Estimate(point if math.isfinite(point) else None)
            replicates = np.asarray(statistic(*self.means(x)))
            without_one = (x.sum(axis=1, keepdims=True) - x) / (self.episodes - 1)
            jackknife = np.asarray(statistic(*without_one))
        if not (np.isfinite(replicates).all() and np.isfinite(jackknife).all()):
            return Estimate(point)
        return bca(point, replicates, jackknife)

    def iqm(self, values: F64) -> Estimate:
        """Interquartile mean of an episode metric (B,); see `iqm`."""
        values = np.asarray(values, dtype=np.float64)
        if self.episodes < 2:
            return Estimate(iqm(values))
        without_one = 1 - np.eye(self.episodes, dtype=np.int32)  # each column lacks one episode
        return bca(iqm(values), self.iqms(values), _iqm_of_counts(values, without_one))

    def iqms(self, values: F64) -> F64:
        """Interquartile mean of a metric (B,) on every resample (R,)."""
        return _iqm_of_counts(values, self._counts)


def bca(point: float, replicates: F64, jackknife: F64) -> Estimate:
    """The bias-corrected and accelerated interval.

    Args:
        point: the estimate.
        replicates: the estimate on each resample (R,).
        jackknife: the estimate without each episode (B,).
    """
    if np.ptp(replicates) <= 1e-12 * max(1.0, abs(point)):
        return Estimate(point, point, point)
    below = np.mean(replicates < point) + 0.5 * np.mean(replicates == point)
    edge = 0.5 / len(replicates)
    bias = _NORMAL.inv_cdf(float(np.clip(below, edge, 1 - edge)))
    deviations = jackknife.mean() - jackknife
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread > 0 else 0.0
    shifted = [bias + (bias + z) / (1 - acceleration * (bias + z)) for z in (-_Z, _Z)]
    low, high = np.quantile(replicates, [_NORMAL.cdf(z) for z in shifted])
    return Estimate(point, float(low), float(high))


def iqm(values: F64) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter of the episodes.

    A few extreme tapes cannot move it (Agarwal et al. 2021, arXiv 2108.13264). Of n values floor(n / 4) are
    left out at each end, as scipy's ``trim_mean(values, 0.25)`` does.
    """
    values = np.asarray(values, dtype=np.float64)
    return float(_iqm_of_counts(values, np.ones((len(values), 1), dtype=np.int32))[0])


def _iqm_of_counts(values: F64, counts: npt.NDArray[np.signedinteger]) -> F64:
    """Interquartile mean of resamples that hold value b counts[b, r] times: (B,) and (B, R) to (R,).

    All resamples have the same size.
    """
    order = np.argsort(values, kind="stable")
    upto = counts[order]
    np.cumsum(upto, axis=0, out=upto)
    size = int(upto[-1, 0])
    cut = size // 4
    np.clip(upto, cut, size - cut, out=upto)
    # Summation by parts of sum over b of (upto[b] - upto[b - 1]) v[b], without building the differences.
    ordered = values[order]
    total = (size - cut) * ordered[-1] - cut * ordered[0] - np.einsum("b,br->r", np.diff(ordered), upto[:-1])
    return total / (size - 2 * cut)


def wilson(successes: npt.NDArray) -> Estimate:
    """Share of episodes with Wilson's score interval (Wilson 1927, doi 10.2307/2276774).

    A bootstrap of 100 successes in 100 has no width; this one says what 100 of 100 really shows. Halves (ties)
    may stand among the zeros and ones; they vary less, so the interval is on the safe side then.
    """
    n = len(successes)
    share = float(np.mean(successes))
    if n < 2:
        return Estimate(share)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def difference_of_shares(own: npt.NDArray, other: npt.NDArray) -> Estimate:
    """Difference of two shares of the same episodes (B,) with Newcombe's paired score interval, his method 10.

    Where nearly all episodes meet the SLO the two differ in a handful of them, and a bootstrap of these few
    is far too sure (Newcombe 1998, Statistics in Medicine 17, 2635-2650).
    """
    one, two = wilson(own), wilson(other)
    n, difference = len(own), float(np.mean(own) - np.mean(other))
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return Estimate(difference)
    p, q = float(np.mean(own)), float(np.mean(other))
    both = float(np.mean(own * other))
    # Correlation of the two, its numerator with a continuity correction where it is positive.
    covariance = both - p * q
    covariance = max(covariance - 1 / (2 * n), 0.0) if covariance > 0 else covariance
    spread = (p * (1 - p) * q * (1 - q)) ** 0.5
    phi = covariance / spread if spread > 0 else 0.0
    low, high = (
        (a**2 - 2 * phi * a * b + b**2) ** 0.5
        for a, b in ((p - one.low, two.high - q), (one.high - p, q - two.low))
    )
    return Estimate(difference, max(-1.0, difference - low), min(1.0, difference + high))


def probability_of_improvement(values: F64, others: F64) -> F64:
    """Per episode 1 where values < others, 0.5 where equal, else 0 (B,); its mean is the probability."""
    return np.where(values < others, 1.0, np.where(values == others, 0.5, 0.0))
