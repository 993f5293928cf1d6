"""Intervals: they cover what they should, pairing helps, and impossible ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.statistics import PairedBootstrap, probability_of_improvement, wilson


def test_coverage_on_a_skewed_distribution():
    # 95 % intervals for the mean of 60 exponentials must hold the true mean in about 95 % of 400 trials:
    # 0.95 +- 3 x sqrt(0.95 x 0.05 / 400) is 0.917 to 0.983, and small skewed samples cover a little less.
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(400):
        estimate = PairedBootstrap(60, seed=trial, resamples=600).mean(rng.exponential(2.0, 60))
        hits += estimate.low <= 2.0 <= estimate.high
    assert 0.90 <= hits / 400 <= 0.98


def test_interval_shrinks_like_one_over_root_n():
    rng = np.random.default_rng(2)
    widths = []
    for n in (50, 800):
        e = PairedBootstrap(n, seed=0).mean(rng.normal(size=n))
        widths.append(e.high - e.low)
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.3)


def test_normal_sample_agrees_with_the_textbook_interval():
    values = np.random.default_rng(3).normal(10.0, 1.0, 400)
    e = PairedBootstrap(400, seed=0).mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (e.low, e.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_skew_moves_both_ends_to_the_long_tail():
    values = np.random.default_rng(4).lognormal(0, 1.2, 80)
    e = PairedBootstrap(80, seed=0).mean(values)
    assert e.high - e.mean > 1.15 * (e.mean - e.low)


def test_paired_difference_is_narrower_than_the_intervals_of_the_two():
    rng = np.random.default_rng(5)
    tape = rng.normal(5.0, 2.0, 200)
    a, b = tape + rng.normal(0.0, 0.1, 200), tape + 0.1 + rng.normal(0.0, 0.1, 200)
    bootstrap = PairedBootstrap(200, seed=0)
    difference = bootstrap.difference(a, b)
    unpaired = bootstrap.difference(a, rng.permutation(b))
    assert difference.high < 0  # a tenth is seen under a spread of two
    assert (difference.high - difference.low) < 0.15 * (unpaired.high - unpaired.low)


def test_same_seed_same_interval_other_seed_other_interval():
    values = np.random.default_rng(6).normal(size=30)
    first, again, other = (PairedBootstrap(30, seed=s).mean(values) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_statistic_of_means_is_a_ratio_of_means_not_a_mean_of_ratios():
    a, b = np.array([1.0, 9.0]), np.array([1.0, 3.0])
    assert PairedBootstrap(2, seed=0).of_means(lambda x, y: x / y, a, b).mean == pytest.approx(10 / 4)


def test_constant_values_have_an_interval_without_width():
    e = PairedBootstrap(20, seed=0).mean(np.full(20, 0.3))
    assert (e.mean, e.low, e.high) == pytest.approx((0.3, 0.3, 0.3))


def test_one_episode_has_no_interval():
    e = PairedBootstrap(1, seed=0).mean(np.array([4.0]))
    assert e.as_json() == {"mean": 4.0, "ci95": [None, None]}
    assert wilson(np.array([1.0])).low is None


def test_wilson_against_published_values():
    # 10 of 10: 0.7225 to 1; 81 of 263: 0.2553 to 0.3662 (Newcombe 1998, table I, method 3).
    perfect = wilson(np.ones(10))
    assert (perfect.low, perfect.high) == pytest.approx((0.7225, 1.0), abs=1e-4)
    some = wilson(np.r_[np.ones(81), np.zeros(182)])
    assert (some.low, some.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_probability_of_improvement_counts_ties_half():
    values, others = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 5.0])
    assert probability_of_improvement(values, others).tolist() == [1.0, 0.5, 0.0, 1.0]
