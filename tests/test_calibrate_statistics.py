"""Estimates of calibrate against known distributions: values, and how often the intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs.schema_nodes import Service
from carbonpilot.envs.service import mean_ms
from carbonpilot.real.calibrate.statistics import (
    bootstrapped,
    lognormal,
    marginal_share,
    share,
    uniform_range,
)


def test_lognormal_recovers_its_own_quantiles():
    times = np.exp(np.random.default_rng(0).normal(np.log(80), 0.1, 20_000))
    p50, p95 = lognormal(times)
    assert p50.value == pytest.approx(80, rel=0.01)
    assert p95.value == pytest.approx(80 * np.exp(0.1 * 1.645), rel=0.01)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), tail=st.floats(0, 0.2), far=st.floats(1, 3))
def test_mean_and_p95_are_kept_whatever_the_shape(seed, tail, far):
    """These two decide latency and objective, so the simulator must have them even where times are not lognormal."""
    rng = np.random.default_rng(seed)
    times = 50 * np.exp(rng.normal(0, 0.05, 400))
    times[rng.random(400) < tail] *= far
    p50, p95 = lognormal(times)
    assert p95.value == pytest.approx(np.quantile(times, 0.95), rel=0.01)
    service = Service(distribution="lognormal", p50_ms=p50.value, p95_ms=p95.value)
    assert mean_ms(service) == pytest.approx(times.mean(), rel=0.01)
    assert p50.low <= p50.value <= p50.high


def test_outliers_alone_give_no_spread_but_the_mean():
    times = np.array([10.0] * 99 + [5000.0])
    p50, p95 = lognormal(times)
    assert p50.value == pytest.approx(times.mean())
    assert p95.value == pytest.approx(p50.value, rel=1e-3)


def test_constant_times():
    p50, p95 = lognormal([20.0] * 30)
    assert p50.value == pytest.approx(20)
    assert p95.value >= p50.value


def test_intervals_hold_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for i in range(100):
        found = bootstrapped(rng.normal(10, 3, 80), np.mean, seed=i)
        held += found.low <= 10 <= found.high
    assert 88 <= held <= 100


def test_blocks_widen_the_interval_of_a_wandering_series():
    rng = np.random.default_rng(2)
    walk = np.repeat(rng.normal(0, 1, 40), 5)
    alone, blocks = bootstrapped(walk, np.mean), bootstrapped(walk, np.mean, block=5)
    assert blocks.high - blocks.low > 1.5 * (alone.high - alone.low)


def test_no_loss_among_many_is_not_certainty():
    found = share(0, 3000)
    assert found.value == 0
    assert 0 < found.high < 0.002
    assert share(20, 10_000).low < 0.002 < share(20, 10_000).high


def test_marginal_share_of_batches():
    rng = np.random.default_rng(3)
    sizes = np.tile([1, 2, 4, 8], 10)
    times = 20 * (1 + 0.15 * (sizes - 1)) * rng.normal(1, 0.02, sizes.size)
    found = marginal_share(sizes, times)
    assert found.low < 0.15 < found.high
    assert found.value == pytest.approx(0.15, abs=0.01)


def test_payloads_keep_mean_and_spread():
    sizes = np.random.default_rng(4).uniform(30, 60, 2000)
    low, high = uniform_range(sizes)
    assert (low.value + high.value) / 2 == pytest.approx(sizes.mean(), rel=0.01)
    assert (low.value, high.value) == (pytest.approx(30, rel=0.03), pytest.approx(60, rel=0.03))
    same, also = uniform_range([42.0] * 5)
    assert same.value == also.value == 42
