"""Intervals over training seeds and tapes: two levels of noise, both in one interval.

All S seeds of an agent play the same B tapes. A seed's mean differs from the next one's because training is
random (the upper level), and every mean moves with the tapes (the lower level):

    y[s, b] = mean + seed[s] + tape[b] + rest[s, b],   var(mean of y) = var_seed/S + var_tape/B + var_rest/(S B)

Tapes are resampled, for all seeds together. Resampling three seeds as well could never show a seed worse than
the worst of the three, and its intervals hold the truth far less often than they say (a test measures it). So the
upper level is drawn from Student's t with S - 1 degrees of freedom around the seeds' mean, scaled by their spread
in that very resample. The rest is counted up to three times (as Owen 2007, doi 10.1214/07-AOAS122, shows for
any resampling of both levels); with a hundred tapes this is nothing beside the other two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .statistics import CONFIDENCE, F64, Estimate, PairedBootstrap, difference_of_shares, iqm, wilson

DRAWS = 20  # of the seeds' level for each resample of the tapes: Student's tails are long


def two_level(bootstrap: PairedBootstrap, statistic: Callable[..., Any], own: F64, *shared: F64) -> Estimate:
    """A function of means, linear in the first one, whose metric was measured with several training seeds.

    Args:
        bootstrap: resamples of the tapes.
        statistic: takes the mean of the agent's metric and one mean per other metric, element by element.
        own: the agent's metric per seed and tape (S, B), S >= 2.
        shared: metrics of other policies on the same tapes, each (B,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        points = statistic(own.mean(axis=1), *(x.mean() for x in shared))
        replicates = statistic(bootstrap.means(own), *(bootstrap.means(x) for x in shared))
    return _combine(bootstrap, np.asarray(points), np.asarray(replicates))


def two_level_iqm(bootstrap: PairedBootstrap, own: F64) -> Estimate:
    """Mean over the seeds of each seed's interquartile mean over the tapes; ``own`` is (S, B)."""
    return _combine(bootstrap, np.array([iqm(x) for x in own]), np.stack([bootstrap.iqms(x) for x in own]))


def two_level_share(bootstrap: PairedBootstrap, own: F64) -> Estimate:
    """A share of episodes (S, B) of zeros and ones, at least as wide as Wilson's interval over the tapes.

    The seeds share their tapes, so S times as many episodes are not S times as much evidence.
    """
    found, tapes = two_level(bootstrap, lambda m: m, own), wilson(own.mean(axis=0))
    if found.low is None or found.high is None or tapes.low is None or tapes.high is None:
        return Estimate(found.mean)
    return Estimate(found.mean, max(0.0, min(found.low, tapes.low)), min(1.0, max(found.high, tapes.high)))


def two_level_difference_of_shares(bootstrap: PairedBootstrap, own: F64, other: F64) -> Estimate:
    """A share per seed (S, B) minus another policy's (B,), at least as wide as the seeds' own intervals are."""
    found = two_level(bootstrap, lambda a, b: a - b, own, other)
    each = [difference_of_shares(x, other) for x in own]
    lows, highs = [e.low for e in each if e.low is not None], [e.high for e in each if e.high is not None]
    if found.low is None or found.high is None or not lows or not highs:
        return Estimate(found.mean)
    return Estimate(found.mean, min(found.low, float(np.mean(lows))), max(found.high, float(np.mean(highs))))


def _combine(bootstrap: PairedBootstrap, points: F64, replicates: F64) -> Estimate:
    """The estimate from each seed's point (S,) and its replicates over the tapes (S, R)."""
    point, seeds = float(points.mean()), len(points)
    if not np.isfinite(point):
        return Estimate(None)
    if bootstrap.episodes < 2 or not np.isfinite(replicates).all():
        return Estimate(point)
    error = replicates.std(axis=0, ddof=1) / np.sqrt(seeds)
    rng = np.random.default_rng([bootstrap.seed, seeds])
    drawn = replicates.mean(axis=0) + error * rng.standard_t(seeds - 1, (DRAWS, len(error)))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(point, min(point, float(low)), max(point, float(high)))
