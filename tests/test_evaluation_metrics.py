"""Metrics of an episode: quantile definition, early ends, shares."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from carbonpilot.agents.metrics import (
    episode_metrics,
    latency_quantiles,
    mean_per_episode,
    placement_share,
    share_over_time,
)
from carbonpilot.agents.rollout import EpisodeRecord
from carbonpilot.envs.schema import Slo

SLO = Slo(latency_ms=150.0, quantile=0.95)


def record(latency_ms: np.ndarray, **columns) -> EpisodeRecord:
    """A record in which everything but the latency is plain."""
    shape = latency_ms.shape
    values = {f.name: np.zeros(shape, dtype=np.float32) for f in dataclasses.fields(EpisodeRecord)}
    values |= {"latency_ms": latency_ms.astype(np.float32), "missed": latency_ms > SLO.latency_ms}
    values |= {"placement": np.zeros(shape, dtype=np.int64), "valid": np.ones(shape, dtype=bool)}
    return EpisodeRecord(**(values | columns))


def test_quantile_is_the_ceil_qn_th_smallest():
    latency_ms = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))[:, None]
    found = latency_quantiles(record(latency_ms), (0.5, 0.95, 0.99, 0.07, 0.001, 1.0))
    assert found[:, 0].tolist() == [50.0, 95.0, 99.0, 7.0, 1.0, 100.0]


def test_quantile_agrees_with_numpys_inverted_cdf():
    latency_ms = np.random.default_rng(1).lognormal(4, 1, (137, 5))
    ours = latency_quantiles(record(latency_ms), (0.5, 0.9, 0.95, 0.99))
    theirs = np.quantile(latency_ms.astype(np.float32), (0.5, 0.9, 0.95, 0.99), axis=0, method="inverted_cdf")
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("requests", [1, 7, 20, 100, 1000])
@pytest.mark.parametrize("over", [0, 1])
def test_episode_meets_the_slo_exactly_when_at_most_five_percent_miss(requests, over):
    misses = int(0.05 * requests) + over  # the most that are allowed, and one more
    latency_ms = np.full((requests, 1), 150.0)
    latency_ms[:misses] = 151.0
    metrics = episode_metrics(record(latency_ms), SLO)
    assert metrics["episodes_meeting_slo"][0] == (1.0 - over)
    assert metrics["slo_miss_rate"][0] == pytest.approx(misses / requests)


def test_requests_after_the_end_of_a_trace_do_not_count():
    latency_ms = np.full((10, 2), 100.0)
    latency_ms[4:, 1] = 9000.0
    valid = np.ones((10, 2), dtype=bool)
    valid[4:, 1] = False
    carbon = np.where(valid, 1.0, 77.0).astype(np.float32)
    metrics = episode_metrics(record(latency_ms, valid=valid, carbon_mg=carbon), SLO)
    assert metrics["latency_p99_ms"].tolist() == [100.0, 100.0]
    assert metrics["carbon_mg_per_request"].tolist() == [1.0, 1.0]
    assert metrics["slo_miss_rate"].tolist() == [0.0, 0.0]


def test_mean_per_episode_sums_in_double_precision():
    values = np.full((100_000, 1), 0.1, dtype=np.float32)
    mean = mean_per_episode(values, np.ones(values.shape, dtype=bool))
    assert mean[0] == pytest.approx(float(np.float32(0.1)), rel=1e-9)


def test_shares_add_up_to_one():
    placement = np.random.default_rng(2).integers(0, 3, (40, 6))
    shares = placement_share(record(np.ones((40, 6)), placement=placement), 3)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    assert shares[1, 2] == pytest.approx((placement[:, 2] == 1).mean())


def test_share_over_time_sees_the_switch():
    placement = np.zeros((100, 4), dtype=np.int64)
    placement[50:] = 1
    time, shares = share_over_time(record(np.ones((100, 4)), placement=placement), 2, bins=10)
    assert time.tolist() == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    assert shares[1].tolist() == [0.0] * 5 + [1.0] * 5


def test_share_over_time_is_nan_where_no_episode_got():
    valid = np.ones((20, 2), dtype=bool)
    valid[10:] = False
    _, shares = share_over_time(record(np.ones((20, 2)), valid=valid), 2, bins=4)
    assert np.isnan(shares[:, 2:]).all()
    assert shares[0, :2].tolist() == [1.0, 1.0]
