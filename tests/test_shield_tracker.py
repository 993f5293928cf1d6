"""The quantile tracker keeps its level in the long run, whatever comes; with error bars."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.shield_tracker import QuantileTracker


def above(scores, level=0.05, step=0.1, start=0.0):
    """Which scores were above the tracked quantile of their time."""
    tracker = QuantileTracker(level, step, start)
    found = np.empty(len(scores), bool)
    for n, score in enumerate(scores.tolist()):
        before = tracker.above
        tracker.update(score)
        found[n] = tracker.above > before
    return found


def batch_means(flags, batches=40):
    """Mean and its standard error, from batch means: neighbours are not independent."""
    means = flags[: len(flags) // batches * batches].reshape(batches, -1).mean(axis=1)
    return means.mean(), means.std(ddof=1) / math.sqrt(batches)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_independent_scores_are_above_as_often_as_asked(level):
    share, error = batch_means(above(np.random.default_rng(0).normal(0, 0.3, 60_000), level))
    assert abs(share - level) < 4 * error
    assert error < 0.1 * level


def test_a_fixed_quantile_loses_the_level_under_drift_and_the_tracker_keeps_it():
    rng = np.random.default_rng(1)
    drift = 1.5 * np.sin(np.arange(60_000) / 3000) + np.cumsum(rng.normal(0, 0.003, 60_000))
    scores = drift + rng.normal(0, 0.3, 60_000)
    share, error = batch_means(above(scores))
    assert abs(share - 0.05) < 4 * error + 0.002
    fixed = (scores > np.quantile(scores[:1000], 0.95)).mean()
    assert abs(fixed - 0.05) > 0.05


def test_it_estimates_the_quantile():
    rng = np.random.default_rng(2)
    tracker, values = QuantileTracker(0.05, 0.02, 0.0), []
    for score in rng.normal(0, 0.3, 40_000):
        tracker.update(score)
        values.append(tracker.value)
    assert np.mean(values[5000:]) == pytest.approx(1.645 * 0.3, abs=0.03)


@settings(deadline=None, max_examples=100)
@given(
    scores=st.lists(st.floats(-1, 1), min_size=1, max_size=400),
    level=st.floats(0.01, 0.5),
    step=st.floats(0.01, 0.5),
    start=st.floats(-1, 1),
)
def test_the_share_is_within_its_proven_bound_for_any_scores(scores, level, step, start):
    """Also for scores that an adversary chose: |share - level| <= (b + step) / (step T) with scores within b."""
    flags = above(np.array(scores), level, step, start)
    assert abs(flags.mean() - level) <= (2.0 + step) / (step * len(scores)) + 1e-9


def test_infinity_counts_as_above_and_forgetting_goes_back_to_the_start():
    tracker = QuantileTracker(0.05, 0.1, 0.4)
    for _ in range(10):
        tracker.update(math.inf)
    assert tracker.value == pytest.approx(0.4 + 10 * 0.095)
    assert tracker.factor == pytest.approx(math.exp(tracker.value))
    tracker.forget(0.5)
    assert tracker.value == pytest.approx(0.4 + 5 * 0.095)
    tracker.forget(7.0)
    assert tracker.value == pytest.approx(0.4)
