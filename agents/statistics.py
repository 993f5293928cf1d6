"""Intervals over episodes: a paired bootstrap, and Wilson's interval for shares of episodes.

The tapes are the sample: an interval says how far the numbers would move on other tapes of the same
scenario. It says nothing about training noise; for that, train several seeds.
"""

from __future__ import annotations

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
        """Draw the resamples as weights of the episodes (R, B)."""
        self.episodes = episodes
        counts = np.random.default_rng(seed).multinomial(
            episodes, np.full(episodes, 1 / episodes), size=resamples
        )
        self._weights = counts / episodes

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
        """
        x = np.stack(values).astype(np.float64)
        point = float(statistic(*x.mean(axis=1)))
        if self.episodes < 2:
            return Estimate(point)
        replicates = np.asarray(statistic(*(x @ self._weights.T)))
        without_one = (x.sum(axis=1, keepdims=True) - x) / (self.episodes - 1)
        return bca(point, replicates, np.asarray(statistic(*without_one)))


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


def wilson(successes: npt.NDArray) -> Estimate:
    """Share of episodes with Wilson's score interval (Wilson 1927, doi 10.2307/2276774).

    A bootstrap of 100 successes in 100 has no width; this one says what 100 of 100 really shows.
    """
    n = len(successes)
    share = float(np.mean(successes))
    if n < 2:
        return Estimate(share)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def probability_of_improvement(values: F64, others: F64) -> F64:
    """Per episode 1 where values < others, 0.5 where equal, else 0 (B,); its mean is the probability."""
    return np.where(values < others, 1.0, np.where(values == others, 0.5, 0.0))
