"""Intervals: they cover what they should, pairing helps, and impossible ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.agents.seed_bootstrap import (
    two_level,
    two_level_difference_of_shares,
    two_level_iqm,
    two_level_share,
)
from carbonpilot.agents.statistics import (
    Estimate,
    PairedBootstrap,
    difference_of_shares,
    iqm,
    probability_of_improvement,
    wilson,
)


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


def paired(both: int, own_only: int, other_only: int, neither: int):
    own = np.r_[np.ones(both + own_only), np.zeros(other_only + neither)]
    other = np.r_[np.ones(both), np.zeros(own_only), np.ones(other_only), np.zeros(neither)]
    return own, other


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [((36, 12, 2, 0), 0.0569, 0.3404), ((20, 12, 2, 16), 0.0562, 0.3292), ((0, 30, 0, 0), 0.8395, 1.0)],
)
def test_difference_of_shares_against_published_values(table, low, high):
    """Newcombe 1998, Statistics in Medicine 17, 2635-2650, table III, method 10."""
    found = difference_of_shares(*paired(*table))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    turned = difference_of_shares(*reversed(paired(*table)))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_rare_misses_are_not_overrated():
    """Two policies that fail in 2 % of the tapes each, mostly not the same ones: neither is better.

    What is called clearly different (an interval without zero) may be so in at most about 5 % of 400 trials.
    """
    rng, clear, bootstrapped = np.random.default_rng(14), 0, 0
    for trial in range(400):
        own, other = (rng.random((2, 100)) > 0.02).astype(float)
        found = difference_of_shares(own, other)
        assert found.low <= found.mean <= found.high
        clear += found.low > 0 or found.high < 0
        e = PairedBootstrap(100, trial, resamples=300).difference(own, other)
        bootstrapped += e.low > 0 or e.high < 0
    assert clear / 400 <= 0.04
    assert bootstrapped > clear  # why it is not bootstrapped


def test_difference_of_shares_with_seeds_is_no_narrower_than_with_one():
    own, other = paired(180, 8, 4, 8)
    bootstrap = PairedBootstrap(200, 0)
    one, same = (
        difference_of_shares(own, other),
        two_level_difference_of_shares(bootstrap, np.stack([own] * 3), other),
    )
    assert same.mean == pytest.approx(one.mean)
    assert same.low <= one.low + 1e-12
    assert same.high >= one.high - 1e-12
    spread = np.stack(
        [own, np.roll(own, 7) * (np.arange(200) % 4 > 0), own]
    )  # one seed misses a quarter more
    wider = two_level_difference_of_shares(bootstrap, spread, other)
    assert wider.high - wider.low > 2 * (same.high - same.low)


def test_probability_of_improvement_counts_ties_half():
    values, others = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 5.0])
    assert probability_of_improvement(values, others).tolist() == [1.0, 0.5, 0.0, 1.0]


def test_intervals_are_scipys():
    """Both are BCa; what differs is the draw of the resamples: about 1 % of the width at 20 000 of them."""
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(7).lognormal(0, 1.0, 60)
    ours = PairedBootstrap(60, seed=0, resamples=20_000).mean(values)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)
    plain = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    assert abs(plain.confidence_interval.high - theirs.high) > 0.03 * width  # the check can fail


def test_a_ratio_has_scipys_interval_too():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(8)
    other = rng.lognormal(0, 0.4, 80)
    own = other * rng.normal(0.9, 0.05, 80)
    ours = PairedBootstrap(80, seed=0, resamples=10_000).of_means(lambda a, b: a / b - 1, own, other)
    theirs = stats.bootstrap(
        (own, other),
        lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis) - 1,
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_a_ratio_to_nothing_does_not_exist():
    bootstrap = PairedBootstrap(10, seed=0)
    ratio = bootstrap.of_means(lambda a, b: a / b, np.ones(10), np.zeros(10))
    assert ratio == Estimate(None)
    once = np.r_[1.0, np.zeros(9)]  # some resamples hold no one: an estimate, but no interval
    assert bootstrap.of_means(lambda a, b: a / b, np.ones(10), once) == Estimate(10.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_interquartile_mean_is_scipys_trimmed_mean(values):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.trim_mean(values, 0.25)
    assert iqm(np.array(values)) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_resampled_interquartile_means_are_those_of_the_resamples():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(9).lognormal(0, 1, 23)
    bootstrap = PairedBootstrap(23, seed=5, resamples=40)
    counts = np.random.default_rng(5).multinomial(23, np.full(23, 1 / 23), size=40)
    expected = [stats.trim_mean(np.repeat(values, row), 0.25) for row in counts]
    np.testing.assert_allclose(bootstrap.iqms(values), expected, rtol=1e-12)


def test_interquartile_mean_covers_and_ignores_extreme_tapes():
    rng = np.random.default_rng(10)
    hits = 0
    for trial in range(200):
        e = PairedBootstrap(60, seed=trial, resamples=500).iqm(rng.normal(3.0, 1.0, 60))
        hits += e.low <= 3.0 <= e.high
    assert 0.89 <= hits / 200 <= 0.99  # 0.95 +- 3 x sqrt(0.95 x 0.05 / 200) is 0.904 to 0.996
    values = rng.normal(3.0, 1.0, 60)
    spoiled = np.where(np.arange(60) == 7, 1e6, values)
    assert iqm(spoiled) == pytest.approx(iqm(values), abs=0.1)
    assert spoiled.mean() > 1e4


def seeds_and_tapes(rng, seeds: int, tapes: int, of_seed: float, of_tape: float, rest: float = 1.0):
    """A metric (S, B) of true mean zero whose levels have these standard deviations."""
    between = rng.normal(0, of_seed, (seeds, 1)) + rng.normal(0, of_tape, (1, tapes))
    return between + rng.normal(0, rest, (seeds, tapes))


def resampled_twice(bootstrap: PairedBootstrap, own: np.ndarray, rng) -> tuple[float, float]:
    """The plain hierarchical bootstrap: seeds drawn with replacement, then tapes."""
    weights = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=len(bootstrap.means(own[0])))
    low, high = np.quantile((weights / len(own) * bootstrap.means(own).T).sum(axis=1), [0.025, 0.975])
    return low, high


@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_tape"),
    [(2, 1.0, 0.1), (3, 1.0, 0.1), (3, 0.3, 2.0), (5, 1.0, 3.0), (3, 0.0, 2.0)],
)
def test_two_levels_cover_whichever_noise_is_the_larger(seeds, of_seed, of_tape):
    """0.95 +- 3 x sqrt(0.95 x 0.05 / 200) is 0.904 to 0.996; it may be wider than it says, never narrower."""
    rng, hits = np.random.default_rng(seeds), 0
    for trial in range(200):
        own = seeds_and_tapes(rng, seeds, 60, of_seed, of_tape)
        e = two_level(PairedBootstrap(60, trial, resamples=400), lambda m: m, own)
        hits += e.low <= 0 <= e.high
    assert hits / 200 >= 0.91


def test_resampling_three_seeds_does_not_cover_what_it_says():
    """Why the seeds' level is not simply resampled: nominal 95 % hold the truth in about 73 % of the trials."""
    rng, plain, ours = np.random.default_rng(11), 0, 0
    for trial in range(200):
        own = seeds_and_tapes(rng, 3, 60, 1.0, 0.1)
        bootstrap = PairedBootstrap(60, trial, resamples=400)
        low, high = resampled_twice(bootstrap, own, rng)
        plain += low <= 0 <= high
        e = two_level(bootstrap, lambda m: m, own)
        ours += e.low <= 0 <= e.high
    assert plain / 200 < 0.85
    assert ours / 200 > 0.91


@pytest.mark.parametrize(("of_seed", "of_tape"), [(1.0, 0.0), (0.0, 5.0), (1.0, 5.0)])
def test_two_levels_have_the_variance_of_the_model(of_seed, of_tape):
    """With many seeds and tapes: var = var_seed / S + var_tape / B + var_rest / (S B), and as resampled twice."""
    seeds, tapes, rng = 40, 300, np.random.default_rng(12)
    true = np.sqrt(of_seed**2 / seeds + of_tape**2 / tapes + 0.25 / (seeds * tapes))
    ours, plain = [], []
    for trial in range(12):
        own = seeds_and_tapes(rng, seeds, tapes, of_seed, of_tape, rest=0.5)
        bootstrap = PairedBootstrap(tapes, trial)
        e = two_level(bootstrap, lambda m: m, own)
        low, high = resampled_twice(bootstrap, own, rng)
        ours.append((e.high - e.low) / (2 * 1.96))
        plain.append((high - low) / (2 * 1.96))
    assert np.mean(ours) == pytest.approx(true, rel=0.1)
    assert np.mean(ours) == pytest.approx(np.mean(plain), rel=0.06)


def test_the_noise_of_training_is_in_the_interval():
    """Three seeds that differ by a tenth on tapes that hardly differ: tapes alone would claim to know it all."""
    rng = np.random.default_rng(13)
    tape = rng.normal(1.0, 0.01, 200)
    own = tape + np.array([[-0.1], [0.0], [0.1]])
    bootstrap = PairedBootstrap(200, 0)
    both, tapes_only = two_level(bootstrap, lambda m: m, own), bootstrap.mean(own.mean(axis=0))
    half = 4.303 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert (both.high - both.low) / 2 == pytest.approx(half, rel=0.05)
    assert both.high - both.low > 50 * (tapes_only.high - tapes_only.low)
    middle = two_level_iqm(bootstrap, own)
    assert (middle.high - middle.low) / 2 == pytest.approx(half, rel=0.05)


def test_more_seeds_on_the_same_tapes_are_not_more_tapes():
    """Three seeds that meet the SLO on all of 100 tapes show what one seed on 100 tapes shows."""
    found, one = two_level_share(PairedBootstrap(100, 0), np.ones((3, 100))), wilson(np.ones(100))
    assert (found.mean, found.low, found.high) == (1.0, one.low, 1.0)
