"""The device's filters give what the simulator's telemetry gives, bit for bit."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest

from carbonpilot.envs import telemetry
from carbonpilot.envs.probe_filter import SMOOTHING, LossFilter, RateFilter, RttFilter
from carbonpilot.real.clock import ManualClock
from carbonpilot.real.probes.echo_probe import Answer
from carbonpilot.real.probes.failure import ProbeFailure
from carbonpilot.real.probes.link import LinkProbe
from carbonpilot.real.probes.loss import LossWindow
from carbonpilot.real.probes.transfer import Transfer
from carbonpilot.real.probes.uplink import UplinkEstimator

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def random_link(seed: int, count: int = 400):
    rng = np.random.default_rng(seed)
    rtt = rng.lognormal(3, 0.7, (count, 1)).astype(np.float32)
    rate = rng.lognormal(3, 0.5, (count, 1)).astype(np.float32)
    loss = (rng.random((count, 1)) * 0.05).astype(np.float32)
    blocked = rng.random((count, 1)) < 0.1
    blocked[0] = False
    return rtt, rate, blocked, loss


def simulated(rtt, rate, blocked, loss, every=1):
    out = np.empty((6, *rtt.shape), np.float32)
    telemetry._follow(rtt, rate, blocked, loss, every, out)
    return out[:, :, 0]


def test_the_weight_is_the_simulators():
    assert SMOOTHING == telemetry.SMOOTHING


@pytest.mark.parametrize("seed", range(20))
def test_filters_equal_the_simulators_bit_for_bit(seed):
    rtt, rate, blocked, loss = random_link(seed)
    expected = simulated(rtt, rate, blocked, loss)
    rtts, losses, rates = RttFilter(), LossFilter(), RateFilter()
    for s in range(len(rtt) - 1):
        losses.update(1.0 if blocked[s, 0] else loss[s, 0])
        if not blocked[s, 0]:
            rtts.answered(rtt[s, 0])
            rates.update(rate[s, 0])
        got = np.array(
            [rtts.last_ms, rtts.smooth_ms, rtts.deviation_ms, losses.loss_pct, rates.rate_mbps], np.float32
        )
        assert got.tobytes() == expected[:5, s + 1].tobytes(), s


class Scripted:
    """An exchange that answers from arrays; its probe of second s ends at s + 1."""

    def __init__(self, rtt, blocked):
        self.rtt, self.blocked, self.s = rtt, blocked, -1

    def exchange(self):
        self.s += 1
        if self.blocked[self.s, 0]:
            raise ProbeFailure("scripted")
        return Answer(float(self.rtt[self.s, 0]), None, 1, 0)

    def close(self):
        pass


@pytest.mark.parametrize("every", [1, 3])
def test_a_probed_link_shows_the_simulators_features(every):
    rtt, rate, blocked, _ = random_link(7)
    expected = simulated(rtt, rate, blocked, np.zeros_like(rtt), every)
    clock, uplink = ManualClock(NOON), UplinkEstimator(window=1)
    link = LinkProbe(Scripted(rtt, blocked), clock, uplink)
    for s in range(200):
        clock.advance(1.0)
        if s % every == 0:
            if not blocked[s, 0]:  # a transfer that the link held back, at the tape's rate
                uplink.observe(Transfer(1_000_000, s, 0.0, 1.0, 1.0, float(rate[s, 0]), 1.0))
            link.probe()
        else:
            link._exchange.s += 1
        seen = link.state.features("up", clock.monotonic_s())
        names = ["rtt_last_ms", "rtt_ms", "rtt_deviation_ms", "loss_pct", "uplink_mbps", "probe_age_s"]
        got = np.array([seen[f"up_{name}"] for name in names], np.float32)
        assert got[[0, 1, 2, 3, 5]].tobytes() == expected[[0, 1, 2, 3, 5], s + 1].tobytes()
        assert got[4] == pytest.approx(expected[4, s + 1], rel=1e-5)


def test_a_link_that_never_answered_shows_no_value_but_an_infinite_age():
    clock = ManualClock(NOON)
    link = LinkProbe(Scripted(np.ones((9, 1)), np.ones((9, 1), bool)), clock)
    assert link.state.features("up", 0.0) == {"up_probe_age_s": np.inf}
    for _ in range(5):
        link.probe()
    seen = link.state.features("up", 100.0)
    assert set(seen) == {"up_loss_pct", "up_probe_age_s"}
    assert seen["up_loss_pct"] == pytest.approx(100 * (1 - 0.7**5), rel=1e-5)
    assert (link.state.lost, link.state.probes, link.state.error) == (5, 5, "scripted")


def test_the_calendar_set_back_does_not_change_ages():
    clock = ManualClock(NOON)
    link = LinkProbe(Scripted(np.ones((2, 1)), np.zeros((2, 1), bool)), clock)
    link.probe()
    clock.set_utc(datetime(2020, 1, 1, tzinfo=timezone.utc))
    clock.advance(4.5)
    assert link.state.age_s(clock.monotonic_s()) == 4.5
    assert link.state.features("up", clock.monotonic_s())["up_probe_age_s"] == 4.0


# -- loss over a window ---------------------------------------------------------------------------------


def test_loss_window_forgets_and_knows_nothing_without_segments():
    window = LossWindow(10)
    assert window.share(0) is None
    window.add(0, 100, 2)
    window.add(8, 100, 0)
    assert window.share(9) == pytest.approx(0.01)
    assert window.share(10.5) == 0.0
    assert window.share(100) is None


def test_loss_window_finds_the_share_of_a_lossy_link():
    rng, window = np.random.default_rng(1), LossWindow(1e9)
    for s in range(2000):  # each of 10 segments is sent until it arrives
        again = int((rng.geometric(0.99, 10) - 1).sum())
        window.add(s, 10 + again, again)
    assert window.share(2000) == pytest.approx(0.01, abs=4 * np.sqrt(0.01 / 20_000))


def test_segments_of_real_transfers_count():
    clock = ManualClock(NOON)
    link = LinkProbe(Scripted(np.ones((3, 1)), np.zeros((3, 1), bool)), clock)
    link.note_segments(99, 10)
    link.probe()
    assert link.state.loss_pct == pytest.approx(0.3 * 10.0)


class Answers:
    def __init__(self, *answers):
        self.answers = list(answers)

    def exchange(self):
        return self.answers.pop(0)

    def close(self):
        pass


def test_a_retransmitted_probe_is_an_answer_but_its_timer_is_no_rtt():
    clock = ManualClock(NOON)
    link = LinkProbe(Answers(Answer(20, None, 1, 0), Answer(230, None, 2, 1), Answer(20, None, 1, 0)), clock)
    for _ in range(3):
        clock.advance(1)
        state = link.probe()
        assert (state.rtt_ms, state.rtt_last_ms, state.rtt_deviation_ms) == (20, 20, 0)
        assert (state.age_s(clock.monotonic_s()), state.lost) == (0, 0)
    assert state.loss_pct > 0


def test_an_rtt_that_rose_beyond_the_timers_is_seen_at_the_third_probe():
    late = Answer(300, None, 2, 1)  # resent needlessly, as the answer was on its way
    link = LinkProbe(Answers(Answer(20, None, 1, 0), late, late, late), ManualClock(NOON))
    assert [float(link.probe().rtt_last_ms or 0) for _ in range(4)] == [20, 20, 20, 300]
