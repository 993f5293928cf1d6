"""A link's rate from acknowledgements: made-up transfers over made-up links, looked at now and then."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs.errors import InputError
from carbonpilot.real.probes.transfer import Reading, Transfer, transfer
from carbonpilot.real.probes.uplink import UplinkEstimator

SEGMENT = 1448


class Link:
    """A sender that leaves gaps between segments, a bottleneck, a way there and back."""

    def __init__(
        self, rate_mbps: float, rtt_s: float = 0.03, pacing_mbps: float = np.inf, window: int = 10**6
    ):
        self.per_segment_s = SEGMENT * 8e-6 / rate_mbps
        self.gap_s, self.rtt_s, self.window = SEGMENT * 8e-6 / pacing_mbps, rtt_s, window

    def send(self, count: int, stall_s: float = 0.0) -> tuple[list[float], list[float]]:
        """When each segment leaves the sender and when it is acknowledged; the path stalls once, half-way."""
        sent, acked, free = [], [], 0.0
        for i in range(count):
            at = sent[-1] + self.gap_s if sent else 0.0
            if i >= self.window:
                at = max(at, acked[i - self.window])
            free = max(free, at) + self.per_segment_s + (stall_s if i == count // 2 else 0.0)
            sent.append(at)
            acked.append(free + self.rtt_s)
        return sent, acked

    def looked_at(self, count: int, every_s: float, offset_s: float = 0.0, **how: float) -> Transfer | None:
        """The same through readings."""
        sent, acked = self.send(count, **how)
        times = np.arange(-every_s * 0.9 + offset_s, acked[-1] + every_s, every_s)
        readings = [
            Reading(
                float(t), SEGMENT * int(np.searchsorted(acked, t)), int(np.searchsorted(sent, t, "right"))
            )
            for t in times
        ]
        return transfer(readings, SEGMENT * count)


@given(
    rate=st.floats(2, 60), rtt=st.floats(0.001, 0.1), offset=st.floats(0, 0.0009), count=st.integers(30, 300)
)
@settings(deadline=None, max_examples=30)
def test_a_burst_over_a_slow_link_arrives_at_the_links_rate(rate, rtt, offset, count):
    seen = Link(rate, rtt).looked_at(count, 0.001, offset)
    assert seen is not None
    true_s = 0.9 * count * SEGMENT * 8e-6 / rate
    assert seen.arriving_least_s <= true_s * 1.05
    assert seen.arriving_most_s >= true_s * 0.95 - SEGMENT * 8e-6 / rate
    assert seen.least_mbps(0.0) <= rate * 1.05
    if true_s > 0.01:
        assert seen.stretched(1.25, 0.002)
        assert seen.rate_mbps == pytest.approx(rate, rel=0.12)
        assert seen.leaving_s == pytest.approx((count - 1) * SEGMENT * 8e-6 / rate, abs=0.0015)


@given(pacing=st.floats(2, 40), factor=st.floats(1.0, 20), offset=st.floats(0, 0.0009))
@settings(deadline=None, max_examples=30)
def test_what_is_sent_slowly_tells_only_what_the_link_has_at_least(pacing, factor, offset):
    seen = Link(pacing * factor, 0.03, pacing_mbps=pacing).looked_at(60, 0.001, offset)
    assert seen is not None
    assert not seen.stretched(1.25, 0.0)
    assert seen.least_mbps(0.0) <= pacing * factor


@given(window=st.integers(2, 12), rtt=st.floats(0.03, 0.1))
@settings(deadline=None, max_examples=30)
def test_windows_that_wait_for_round_trips_tell_of_no_slow_link(window, rtt):
    seen = Link(1000.0, rtt, window=window).looked_at(60, 0.001)
    assert seen is not None
    assert not seen.stretched(1.25, 0.0)
    assert seen.rate_mbps < 60  # which is not the link's


def test_a_transfer_within_one_look_has_a_least_rate_and_no_more():
    seen = Link(940.0, 0.002).looked_at(35, 0.001)
    assert seen is not None
    assert not seen.stretched(1.25, 0.0)
    assert 100 < seen.least_mbps(0.0) < 940
    assert seen.leaving_s > 0


def test_readings_that_end_early_make_no_transfer():
    readings = [Reading(0.0, 0, 0), Reading(0.1, 20_000, 35), Reading(0.2, 40_000, 35)]
    assert transfer(readings, 50_000) is None
    assert transfer([], 50_000) is None
    assert transfer([Reading(0.0, 50_000, 35)], 50_000) is None  # nothing from before it


# -- several transfers ----------------------------------------------------------------------------------


def shown(estimator: UplinkEstimator, link: Link, count: int, jitter_ms: float = 0.5, **how) -> list[float]:
    """What is shown after each of some transfers, the smoothing taken off."""
    rates = []
    for i in range(count):
        seen = link.looked_at(35, 0.0005, 0.0001 * (i % 5), **how)
        assert seen is not None
        estimator.observe(seen)
        estimator.fold(jitter_ms)
        rates.append(estimator._rate_mbps)
    return rates


def test_a_hiccup_does_not_move_the_estimate_and_a_slower_link_does_within_a_few_transfers():
    estimator = UplinkEstimator(prior_mbps=924)
    assert shown(estimator, Link(924, 0.002), 8) == [924] * 8
    assert shown(estimator, Link(924, 0.002), 3, stall_s=0.03) == [924] * 3
    assert estimator.fold().assumed
    shown(estimator, Link(924, 0.002), 4)
    slower = shown(estimator, Link(20, 0.002), 12)
    assert slower[:3] == [924] * 3
    assert slower[3:] == pytest.approx([20] * 9, rel=0.1)
    assert not estimator.fold().assumed
    assert shown(estimator, Link(20, 0.002), 3, stall_s=0.03) == pytest.approx([20] * 3, rel=0.2)
    assert estimator.fold().rate_mbps == pytest.approx(20, rel=0.2)


def test_when_a_slow_spell_is_over_the_sites_own_rate_holds_again():
    estimator = UplinkEstimator(prior_mbps=100)
    shown(estimator, Link(10, 0.03), 8)
    assert estimator._rate_mbps == pytest.approx(10, rel=0.1)
    after = shown(estimator, Link(100, 0.03, pacing_mbps=40), 8)
    assert after[5:] == [100] * 3


def test_round_trips_and_pacing_never_pull_it_down():
    estimator = UplinkEstimator(prior_mbps=100)
    assert shown(estimator, Link(100, 0.03, window=10), 10) == [100] * 10
    assert shown(estimator, Link(100, 0.03, pacing_mbps=12), 10) == [100] * 10


def test_a_link_that_is_faster_than_the_site_says_raises_it():
    estimator = UplinkEstimator(prior_mbps=5)
    assert shown(estimator, Link(40, 0.02), 10, jitter_ms=0.0)[-1] == pytest.approx(40, rel=0.1)
    paced = UplinkEstimator(prior_mbps=5)
    assert 20 < shown(paced, Link(1000, 0.02, pacing_mbps=40), 10)[-1] < 45


def test_a_stretch_that_the_paths_jitter_may_have_made_is_no_slow_link():
    estimator = UplinkEstimator(prior_mbps=50)
    assert shown(estimator, Link(25, 0.06), 10, jitter_ms=20) == [50] * 10  # 16 ms instead of 8
    assert shown(estimator, Link(10, 0.06), 10, jitter_ms=20)[-1] == pytest.approx(10, rel=0.1)


def test_small_transfers_and_those_sent_again_are_ignored_and_counted():
    estimator = UplinkEstimator(prior_mbps=100)
    for again, count in ((1, 35), (0, 5)):
        seen = Link(4).looked_at(count, 0.001)
        assert seen is not None
        estimator.observe(Transfer(**{**vars(seen), "again": again}))
    state = estimator.fold()
    assert (state.used, state.ignored, state.assumed, state.measured_s) == (0, 2, True, None)


def test_without_a_prior_the_first_transfer_tells_the_least():
    estimator = UplinkEstimator()
    assert estimator.fold().rate_mbps is None
    seen = Link(50, 0.03).looked_at(35, 0.0005)
    assert seen is not None
    estimator.observe(seen)
    assert 20 < estimator.fold().rate_mbps < 50
    assert not estimator.fold().assumed


def test_old_transfers_say_nothing_about_now():
    estimator = UplinkEstimator(prior_mbps=100)
    slow = Link(5, 0.02).looked_at(35, 0.0005)
    assert slow is not None
    for i in range(8):  # one a minute: never four of them within what is kept
        estimator.observe(Transfer(**{**vars(slow), "left_s": 60.0 * i}))
        assert estimator.fold().rate_mbps == 100
    assert estimator.fold().age_s(430.0) == 10.0


def test_a_prior_must_be_positive():
    with pytest.raises(InputError, match="leave it out"):
        UplinkEstimator(prior_mbps=0)
