"""Extremes of a flight's round-trip time: the closed form against a walk simulated packet by packet."""

import numpy as np
import pytest

from carbonpilot.envs.transfer.connection import JITTER_TIME_MS, Path, least_rtt_ms
from carbonpilot.envs.transfer.extremes import extremes
from carbonpilot.envs.transfer.tcp import open_connections

FLIGHTS = 6000


def walk_ms(jitter_ms, spread_ms, acks, way_ms=30.0, seed=0):
    """Round-trip times (acks, FLIGHTS) over a link whose two ways have half a moving delay each, order kept."""
    rng = np.random.default_rng(seed)
    length = int(spread_ms + 4 * way_ms)
    kept = np.exp(-1.0 / JITTER_TIME_MS)
    unit = np.empty((length, FLIGHTS))
    unit[0] = rng.standard_normal(FLIGHTS)
    for i in range(1, length):
        unit[i] = kept * unit[i - 1] + np.sqrt(1.0 - kept**2) * rng.standard_normal(FLIGHTS)
    sent = np.linspace(0.0, spread_ms, acks)[:, None]
    there = np.maximum.accumulate(sent + way_ms + 0.5 * jitter_ms * unit[sent.astype(int)[:, 0]], axis=0)
    rows = np.clip(there.astype(int), 0, length - 1)
    back = np.take_along_axis(unit, rows, axis=0)
    return np.maximum.accumulate(there + way_ms + 0.5 * jitter_ms * back, axis=0) - sent


def road(jitter_ms, size=FLIGHTS):
    return Path(*(np.full(size, v) for v in (60.0, jitter_ms, 0.0, 4.0)))


@pytest.mark.parametrize(
    ("jitter_ms", "spread_ms", "acks"),
    [(20.0, 40.0, 11), (20.0, 80.0, 21), (10.0, 30.0, 31), (10.0, 60.0, 31)],
)
def test_extremes_follow_the_walk(jitter_ms, spread_ms, acks):
    rtt = walk_ms(jitter_ms, spread_ms, acks)
    wide = np.full(FLIGHTS, spread_ms)
    least, fall = extremes(
        road(jitter_ms), rtt[0], rtt[-1], wide, np.full(FLIGHTS, 2.0 * acks), np.random.default_rng(1)
    )
    fallen = (np.maximum.accumulate(rtt, axis=0) - rtt).max(axis=0)
    assert (rtt[0] - least).mean() == pytest.approx((rtt[0] - rtt.min(axis=0)).mean(), rel=0.12)
    assert fall.mean() == pytest.approx(fallen.mean(), rel=0.14)
    # What BBR keeps of several flights is the greatest.
    assert fall.reshape(-1, 8).max(axis=1).mean() == pytest.approx(
        fallen.reshape(-1, 8).max(axis=1).mean(), rel=0.1
    )


def test_a_rise_is_no_fall():
    size = np.full(4, 60.0)
    still, path, rng = np.full(4, 20.0), road(0.0, 4), np.random.default_rng(0)
    assert np.array_equal(extremes(path, size, size + 40.0, still, still, rng)[1], np.zeros(4))
    assert np.array_equal(extremes(path, size + 40.0, size, still, still, rng)[1], np.full(4, 40.0))


def test_no_jitter_no_extremes():
    rtt = np.full(4, 60.0)
    least, fall = extremes(
        road(0.0, 4), rtt, rtt, np.full(4, 30.0), np.full(4, 20.0), np.random.default_rng(0)
    )
    assert np.array_equal(least, rtt)
    assert np.array_equal(fall, np.zeros(4))


def test_the_least_is_no_less_than_the_link_allows():
    path = road(200.0)
    rtt = np.full(FLIGHTS, 5.0)
    least, fall = extremes(
        path, rtt, rtt, np.full(FLIGHTS, 50.0), np.full(FLIGHTS, 30.0), np.random.default_rng(0)
    )
    assert least.min() == least_rtt_ms(path)[0]
    assert least.max() <= 5.0
    assert fall.min() >= 0.0


def test_a_flight_s_packets_meet_one_moving_delay():
    path = road(10.0)
    rng = np.random.default_rng(2)
    for spread_ms in (0.0, 10.0, 30.0, 70.0):
        conn = open_connections("cubic", path)
        first = conn.draw_first_rtt(path, rng)
        last = conn.draw_last_rtt(path, np.full(FLIGHTS, spread_ms), rng)
        true = walk_ms(10.0, max(spread_ms, 1e-9), 2, seed=3)
        assert first.std() == pytest.approx(true[0].std(), rel=0.05)
        assert (last - first).std() == pytest.approx(np.diff(true, axis=0).std(), rel=0.12, abs=0.02)
