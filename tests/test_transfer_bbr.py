"""BBR's rules of the kernel: recovery, ack aggregation, samples of the bandwidth; and the uploads that showed them."""

from dataclasses import fields

import numpy as np
import pytest

from carbonpilot.envs.transfer.bbr import ACK_SEGMENTS, BEST_STRETCH, PACING_MARGIN, Bbr
from carbonpilot.envs.transfer.connection import JITTER_TIME_MS, MSS_BYTES, Path, Round
from carbonpilot.envs.transfer.extremes import extremes
from carbonpilot.envs.transfer.max_filter import update_max
from carbonpilot.envs.transfer.tcp import _one_round, segments_per_ms, simulate_uploads, upload

WAY_MS, JITTER_MS = 30.0, 20.0  # emu-b
ROUNDS_KEPT = 8  # between five and ten rounds are in BBR's two windows


def road(size, jitter_ms=JITTER_MS, loss=0.0, rate_mbps=50.0):
    values = (2 * WAY_MS, jitter_ms, loss, float(segments_per_ms(rate_mbps)))
    return Path(*(np.full(size, v) for v in values))


def seen(**given):
    """One connection's round in which nothing happened but what is given."""
    flags = {"new_loss", "last_flight", "timeout", "window_limited"}
    quiet = {f.name: np.zeros(1, dtype=bool if f.name in flags else float) for f in fields(Round)}
    return Round(**quiet | {name: np.array([value]) for name, value in given.items()})


@pytest.fixture
def conn():
    """A connection of 100 segments whose pipe is full."""
    conn = Bbr(road(1))
    conn.full[:] = True
    conn.cwnd[:] = 100.0
    return conn


def lossy(conn, place, delivered=40.0, lost=2.0, **more):
    conn._conserve(
        seen(delivered=delivered, lost=lost, first_loss=place, last_loss=place, **more), np.array([90.0])
    )
    return conn.conserve[0]


def test_a_recovery_conserves_packets_once(conn):
    assert lossy(conn, 0.6) == 40.0
    # Found before that recovery ends: no second round of conservation, the window grows by what is acked.
    assert lossy(conn, 0.3) == 40.0 + 40.0 - 2.0
    assert lossy(conn, 0.2) == 90.0  # as far as the target
    assert lossy(conn, 0.9) == 40.0  # that one was over: another begins
    assert conn.window()[0] == 40.0
    assert lossy(conn, 0.0, lost=0.0) == 0.0
    assert conn.window()[0] == 100.0


def test_a_timeout_starts_from_one_segment_and_ends_the_recovery(conn):
    lossy(conn, 0.6)
    assert lossy(conn, 0.3, timeout=True) == 1.0
    assert lossy(conn, 0.1) == 40.0


def test_startup_cuts_no_window_in_a_recovery(conn):
    conn.full[:] = False
    assert lossy(conn, 0.6, delivered=120.0) == 120.0
    assert lossy(conn, 0.3, delivered=120.0) == 120.0


def acks_of_a_limited_window(window, bandwidth, length_ms=60_000):
    """When acks come back (of two segments each) while a window limits a paced sender, packet by packet, ms."""
    rng = np.random.default_rng(0)
    kept, unit = np.exp(-1.0 / JITTER_TIME_MS), np.empty(length_ms + 2000)
    unit[0] = 0.0
    for i, normal in enumerate(rng.standard_normal(unit.size - 1)):
        unit[i + 1] = kept * unit[i] + np.sqrt(1.0 - kept**2) * normal
    way = np.maximum(WAY_MS + 0.5 * JITTER_MS * unit, 0.0)
    acks, now, there, back = [], 0.0, 0.0, 0.0
    while now < length_ms:
        for _ in range(2):
            there = max(there, now + way[int(now)])
            now += 1.0 / (PACING_MARGIN * bandwidth)
        back = max(back, there + way[int(there)])
        acks.append(back)
        behind = len(acks) - window // 2
        if behind >= 0:
            now = max(now, acks[behind])
    return np.array(acks)


def most_bunched(acks, bandwidth, span_ms=450.0):
    """Greatest excess of what is acked over the bandwidth in each span, segments (Linux' ack epochs)."""
    most, epoch, acked, since, current = [], acks[0], 0.0, acks[0], 0.0
    for now in acks:
        if acked <= bandwidth * (now - epoch):
            epoch, acked = now, 0.0
        acked += ACK_SEGMENTS
        current = max(current, acked - bandwidth * (now - epoch))
        if now - since > span_ms:
            most.append(current)
            since, current = now, 0.0
    return np.mean(most)


@pytest.mark.parametrize(("window", "bandwidth"), [(22, 0.42), (28, 0.6), (36, 0.8), (60, 1.2)])
def test_a_fall_bunches_as_many_acks_as_in_the_walk(window, bandwidth):
    walked = most_bunched(acks_of_a_limited_window(window, bandwidth), bandwidth)
    size, rng = 16_000, np.random.default_rng(1)
    path, wide = road(size), np.full(size, (window - 3.0) / (PACING_MARGIN * bandwidth))
    conn = Bbr(path)
    first = conn.draw_first_rtt(path, rng)
    last = np.maximum(conn.draw_last_rtt(path, wide, rng), first - wide)
    fall = extremes(path, first, last, wide, np.full(size, float(window)), rng)[1]
    bunched = np.minimum(bandwidth * fall + ACK_SEGMENTS, window)
    assert bunched.reshape(-1, ROUNDS_KEPT).max(axis=1).mean() == pytest.approx(walked, rel=0.18)


@pytest.mark.parametrize(("jitter_ms", "exceeds"), [(0.0, False), (JITTER_MS, True)])
def test_only_a_moving_delay_makes_the_bandwidth_seem_more_than_the_path_s(jitter_ms, exceeds):
    path, rng = road(200, jitter_ms), np.random.default_rng(0)
    conn = Bbr(path)
    for _ in range(6):
        upload(conn, path, np.full(200, 1_000_000 // MSS_BYTES), rng)
    over = conn.best[:, 0] / path.rate
    assert (np.quantile(over, 0.95) > 1.05) == exceeds
    assert np.quantile(over, 0.95) < 1.3  # the kernel's own: 1.21 (docs/transfer-model.md)


def test_the_best_stretch_covers_the_probing_phase_and_not_the_draining_one():
    # One phase or eight a round: nothing to choose. From phase 1 (draining) on, two phases a round: those after it.
    assert np.array_equal(BEST_STRETCH[:, [0, 7]], np.ones((8, 2)))
    assert BEST_STRETCH[1, 1] == pytest.approx(1.0 / 0.875)
    # From phase 6 on: [1, 1] seen, [1, 1.25] begins within it.
    assert BEST_STRETCH[6, 1] == pytest.approx(1.125)
    assert BEST_STRETCH.min() == 1.0


def test_the_filter_is_the_maximum_of_its_window():
    rng, best, when = np.random.default_rng(0), np.zeros((3, 3)), np.zeros((3, 3))
    samples = rng.exponential(size=(400, 3))
    for now, sample in enumerate(samples, 1):
        update_max(best, when, np.full(3, float(now)), np.ones(3, dtype=bool), sample, 10.0)
        seen_lately = samples[max(now - 11, 0) : now]
        # Three samples stand for all: never more than the window's greatest, never less than the latest.
        assert np.all(best[:, 0] <= seen_lately.max(axis=0))
        assert np.all(best[:, 0] >= sample)
        assert np.all(np.diff(best, axis=1) <= 0)
    assert np.all(np.float64(now) - when <= 11)


def test_bursts_go_by_the_lowest_rtt_of_all_not_by_that_of_the_last_ten_seconds():
    conn = Bbr(road(2))
    conn.pace[:] = 0.4
    conn.min_rtt_ms[:] = 30.0
    conn.lowest_rtt_ms[:] = [30.0, 0.4]
    assert conn.quantum().tolist() == [2.0, 44.0]


def test_packets_wait_behind_those_of_the_round_before():
    """A window of twice what the path holds stands in its queue, so no packet of a later round sees the path alone."""
    path, rng = road(50, jitter_ms=0.0), np.random.default_rng(0)
    pipe = 2 * WAY_MS * path.rate[0]
    conn = Bbr(path)
    conn.full[:], conn.cwnd[:] = True, 2.0 * pipe
    conn.best[:], conn.pace[:] = path.rate[0], np.inf
    conn.begin(np.full(50, 6.0 * pipe))
    conn.pace[:] = 10.0 * path.rate[0]
    _one_round(conn, path, rng, None)
    assert conn.min_rtt_ms == pytest.approx(2 * WAY_MS, abs=0.01)
    assert conn.backlog_ms == pytest.approx(2 * WAY_MS, rel=0.01)
    conn.min_rtt_ms[:] = np.inf
    conn.cwnd[:], conn.pace[:] = 2.0 * pipe, 10.0 * path.rate[0]
    _one_round(conn, path, rng, None)
    assert conn.min_rtt_ms == pytest.approx(4 * WAY_MS, rel=0.01)
    conn.begin(np.full(50, 10.0))
    assert np.all(conn.backlog_ms == 0.0)


def test_a_megabyte_over_emu_b_takes_as_long_as_over_the_kernel():
    """The kernel's over 340 connections of two days, 22 uploads of each: 421 (391-453) and 2214 (2163-2256) ms."""
    took = simulate_uploads("bbr", 60.4, JITTER_MS, 0.01, 50.0, 1_000_000, 25, connections=1200, seed=1)[3:]
    median, p95 = np.percentile(took, [50, 95])
    assert median == pytest.approx(421.0, rel=0.15)
    assert p95 == pytest.approx(2214.0, rel=0.25)
