"""An echo probe tells the round trip that the kernel timed, not when two processes had woken up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.real.probes import echo_probe
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.probes.echo_probe import EchoProbe
from carbonpilot.real.probes.tcp_info import TcpInfo


def info_of(rtt_us: int) -> TcpInfo:
    return TcpInfo(rtt_us, 100, 0, 10, 1, rtt_us, None, None, None, None, None)


def kernel_reads(samples_us: list[int]) -> list[int]:
    """What TCP_INFO tells after each sample (Linux tcp_rtt_estimator keeps eight times the smoothed time)."""
    scaled, told = 8 * samples_us[0], []
    for sample_us in samples_us[1:]:
        scaled += sample_us - (scaled >> 3)
        told.append(scaled >> 3)
    return told


@given(st.lists(st.integers(50, 900_000), min_size=3, max_size=30))
def test_the_kernels_sample_comes_out_of_its_smoothed_time(samples_us):
    told = kernel_reads(samples_us)
    for before_us, now_us, sample_us in zip(told, told[1:], samples_us[2:], strict=False):
        found = echo_probe._rtt_ms(info_of(before_us), info_of(now_us), 1, 1000.0)
        assert found == pytest.approx(sample_us / 1000, abs=0.015)


def test_without_a_sample_of_its_own_a_probe_tells_what_it_waited():
    one = info_of(5000)
    assert echo_probe._rtt_ms(None, one, 1, 7.0) == 7.0  # the first one of a connection
    assert echo_probe._rtt_ms(one, None, 1, 7.0) == 7.0  # no Linux
    assert echo_probe._rtt_ms(one, one, 2, 7.0) == 7.0  # sent twice: whose answer is it
    assert echo_probe._rtt_ms(one, info_of(6000), 1, 7.0) == 7.0  # 13 ms cannot be, the answer came after 7
    assert echo_probe._rtt_ms(one, info_of(5100), 1, 7.0) == pytest.approx(5.8)


def test_a_process_that_takes_up_its_answer_late_does_not_make_the_road_longer(monkeypatch):
    """The kernel stamps segments: 30 ms between the answer's arrival and its reading do not count."""
    left_s = echo_probe._left_s

    def dawdling(deadline: float) -> float:
        time.sleep(0.03)
        return left_s(deadline)

    with EchoServer() as server:
        probe = EchoProbe("127.0.0.1", server.port)
        probe.exchange()
        monkeypatch.setattr(echo_probe, "_left_s", dawdling)
        took = [probe.exchange().rtt_ms for _ in range(5)]
        probe.close()
    assert all(0.0 < rtt_ms < 15.0 for rtt_ms in took)
