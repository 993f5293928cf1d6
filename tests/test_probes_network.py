"""Probes over real sockets on loopback: what answers, what never does, what comes back; nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.real.clock import ManualClock, SystemClock
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.probes.echo_probe import EchoProbe
from carbonpilot.real.probes.failure import ProbeFailure
from carbonpilot.real.probes.link import LinkProbe
from carbonpilot.real.probes.loop import ProbeLoop
from carbonpilot.real.probes.tcp_info import parse_tcp_info, read_tcp_info

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def eventually(condition, limit_s: float = 2.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(held)


@pytest.fixture(autouse=True)
def _nothing_left():
    files, threads = descriptors(), threading.active_count()
    yield
    assert eventually(lambda: descriptors() <= files)
    assert eventually(lambda: threading.active_count() <= threads)


@pytest.fixture
def server():
    with EchoServer() as running:
        yield running


@pytest.fixture
def silent():
    """A port that accepts (in the kernel) and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed():
    """A port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def probing(port, **options):
    probe = EchoProbe("127.0.0.1", port, **options)
    try:
        yield probe
    finally:
        probe.close()


# -- TCP_INFO -------------------------------------------------------------------------------------------


def recorded(length: int) -> bytes:
    """A structure with a known number in every field that is read."""
    data = bytearray(280)
    data[7] = 1
    words = {68: 31_250, 72: 4_100, 80: 42, 100: 7, 148: 28_900, 156: 1200}
    longs = {120: 1_500_000, 160: 6_250_000, 200: 1_510_000, 208: 10_136}
    for offset, value in words.items():
        struct.pack_into("=I", data, offset, value)
    for offset, value in longs.items():
        struct.pack_into("=Q", data, offset, value)
    return bytes(data[:length])


def test_fields_of_a_recorded_structure():
    info = parse_tcp_info(recorded(280))
    assert (info.rtt_us, info.rttvar_us, info.snd_cwnd, info.total_retrans) == (31_250, 4_100, 42, 7)
    assert (info.min_rtt_us, info.data_segs_out, info.delivery_rate_bytes_per_s) == (28_900, 1200, 6_250_000)
    assert (info.bytes_acked, info.bytes_sent, info.bytes_retrans) == (1_500_000, 1_510_000, 10_136)
    assert info.app_limited is True


@pytest.mark.parametrize(
    ("length", "known"),
    [
        (104, set()),
        (128, {"bytes_acked"}),
        (160, {"bytes_acked", "min_rtt_us", "data_segs_out"}),
        (192, {"bytes_acked", "min_rtt_us", "data_segs_out", "delivery_rate_bytes_per_s", "app_limited"}),
    ],
)
def test_a_field_that_an_older_kernel_lacks_is_none(length, known):
    info = parse_tcp_info(recorded(length))
    late = {
        "bytes_acked", "min_rtt_us", "data_segs_out", "delivery_rate_bytes_per_s", "app_limited", "bytes_sent",
        "bytes_retrans",
    }  # fmt: skip
    assert {name for name in late if getattr(info, name) is not None} == known
    assert info.total_retrans == 7


def test_too_short_a_structure_is_refused():
    with pytest.raises(InputError, match="103 bytes"):
        parse_tcp_info(recorded(103))


def test_the_kernel_counts_what_was_sent_in_bytes_and_microseconds(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        start = time.perf_counter()
        for _ in range(20):
            connection.sendall(b"x" * 500)
            got = 0
            while got < 500:
                got += len(connection.recv(500))
        spent_us = 1e6 * (time.perf_counter() - start)
        info = read_tcp_info(connection)
    assert info is not None
    assert (
        0 < info.rtt_us < max(spent_us, 50_000)
    )  # a loopback round trip is tens of microseconds, not 0, not ms
    if info.bytes_sent is not None:
        assert info.bytes_sent >= 10_000
        assert info.bytes_retrans == 0
    assert info.total_retrans == 0


# -- round trips ----------------------------------------------------------------------------------------


def test_echo_keeps_one_connection(server):
    with probing(server.port) as probe:
        answers = [probe.exchange() for _ in range(5)]
        kept = probe._connection
        probe.exchange()
        assert probe._connection is kept
    assert all(0 < a.rtt_ms < 1000 for a in answers)
    assert all(a.segments_sent >= 1 and a.segments_retransmitted == 0 for a in answers)
    assert sum(a.segments_sent for a in answers) == 5


def test_rtt_is_what_the_way_takes():
    """A server that holds each answer for 30 ms looks 30 ms away."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            peer, _ = listener.accept()
            with peer:
                while data := peer.recv(100):
                    time.sleep(0.03)
                    peer.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        with probing(listener.getsockname()[1]) as probe:
            rtts = [probe.exchange().rtt_ms for _ in range(3)]
        thread.join()
    assert min(rtts) >= 30
    assert min(rtts) < 300


def test_connect_works_against_a_server_that_never_speaks(silent):
    with probing(silent, method="connect") as probe:
        answer = probe.exchange()
    assert 0 < answer.rtt_ms < 1000
    assert (answer.segments_sent, answer.segments_retransmitted) == (1, 0)


def test_auto_falls_back_to_connecting(silent):
    with probing(silent, method="auto", timeout_s=0.1) as probe:
        with pytest.raises(ProbeFailure, match=r"no answer within 0\.1 s"):
            probe.exchange()
        assert probe.method == "connect"
        assert probe.exchange().rtt_ms > 0


def test_auto_stays_with_an_echo_server(server):
    with probing(server.port, method="auto") as probe:
        probe.exchange()
        assert probe.method == "echo"


def test_a_server_that_answers_something_else_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            probing(listener.getsockname()[1]) as probe,
            pytest.raises(ProbeFailure, match=r"not an echo server|reset"),
        ):
            probe.exchange()
        thread.join()


def test_a_black_hole_is_lost_in_time_and_raises_the_loss(silent):
    clock = ManualClock(NOON)
    link = LinkProbe(EchoProbe("127.0.0.1", silent, timeout_s=0.05), clock)
    start = time.perf_counter()
    for _ in range(3):
        link.probe()
        clock.advance(1)
    assert time.perf_counter() - start < 1.5
    link.close()
    assert link.state.lost == 3
    assert link.state.loss_pct == pytest.approx(100 * (1 - 0.7**3), rel=1e-5)
    assert link.state.rtt_ms is None
    assert "no answer within" in (link.state.error or "")


def test_a_closed_port_backs_off_and_every_probe_is_lost(closed):
    clock = ManualClock(NOON)
    with probing(closed, clock=clock, backoff_s=1, most_backoff_s=4) as probe:
        reasons = []
        for _ in range(16):  # a probe a second
            with pytest.raises(ProbeFailure) as failure:
                probe.exchange()
            reasons.append("waiting" in str(failure.value))
            clock.advance(1)
    tried = [s for s, waiting in enumerate(reasons) if not waiting]
    assert tried == [0, 1, 2, 4, 8, 12]  # doubling up to 4 s


def test_it_comes_back_after_the_server_does():
    clock = ManualClock(NOON)
    with EchoServer() as first:
        port = first.port
        link = LinkProbe(EchoProbe("127.0.0.1", port, clock=clock, timeout_s=0.5), clock)
        link.probe()
        assert link.state.error is None
    for _ in range(3):
        clock.advance(1)
        link.probe()
        assert link.state.error is not None
    old = link.state
    assert old.rtt_ms is not None  # kept, but old and lossy
    assert old.age_s(clock.monotonic_s()) == 3
    assert old.features("up", clock.monotonic_s())["up_probe_age_s"] == 3
    with EchoServer(port=port):
        clock.advance(5)
        link.probe()
        assert link.state.error is None
        assert link.state.age_s(clock.monotonic_s()) == 0
        assert link.state.loss_pct < old.loss_pct
        link.close()


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"method": "ping"}, {"backoff_s": 9}, {"timeout_s": float("nan")}]
)
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError):
        EchoProbe("127.0.0.1", 80, **options)


def test_echo_server_refuses_a_port_that_is_taken(server):
    with pytest.raises(InputError, match="--port"):
        EchoServer(port=server.port)


def test_echo_server_limits_connections_and_survives_rude_clients(server):
    crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(70)]
    for client in crowd:
        client.close()
    with probing(server.port, backoff_s=0) as probe:

        def answered():
            with contextlib.suppress(ProbeFailure):
                return probe.exchange()

        assert eventually(answered)


def test_echo_server_as_a_command():
    command = [sys.executable, "-m", "carbonpilot.real.probes.echo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rsplit(":", 1)[1])
            with probing(port) as probe:
                assert probe.exchange().rtt_ms > 0
        finally:
            process.terminate()


# -- the loop -------------------------------------------------------------------------------------------


def test_a_dead_endpoint_delays_no_other_and_only_ages(server, silent):
    clock = SystemClock()
    links = {
        "good": LinkProbe(EchoProbe("127.0.0.1", server.port), clock),
        "dead": LinkProbe(EchoProbe("127.0.0.1", silent, timeout_s=0.3), clock),
    }
    with ProbeLoop(links, {}, 0.02, clock) as loop:
        assert eventually(lambda: loop.latest().links["good"].probes >= 5)
        assert loop.latest().links["dead"].rtt_ms is None
        seen = loop.latest()
        features = seen.features()
        assert features["good_rtt_ms"] > 0
        assert features["dead_probe_age_s"] == float("inf")
        assert "dead_rtt_ms" not in features
        assert eventually(lambda: loop.latest().links["good"].probes > seen.links["good"].probes)
        with pytest.raises(TypeError):
            seen.links["good"] = seen.links["dead"]  # type: ignore[index]
        with pytest.raises(AttributeError):
            seen.links["good"].probes = 0  # type: ignore[misc]


def test_stop_is_prompt_twice_and_final(server):
    clock = SystemClock()
    loop = ProbeLoop({"up": LinkProbe(EchoProbe("127.0.0.1", server.port), clock)}, {}, 60, clock).start()
    assert eventually(lambda: loop.latest().links["up"].probes == 1)
    start = time.perf_counter()
    loop.stop()
    loop.stop()
    assert time.perf_counter() - start < 1
    with pytest.raises(InputError, match="make a new one"):
        loop.start()


def test_an_error_inside_a_probe_is_seen_and_probing_goes_on():
    clock = ManualClock(NOON)

    class Faulty:
        calls = 0

        def exchange(self):
            Faulty.calls += 1
            raise ZeroDivisionError("bug")

        def close(self):
            pass

    with ProbeLoop({"up": LinkProbe(Faulty(), clock)}, {}, 0.005, clock) as loop:
        assert eventually(lambda: Faulty.calls >= 3)
        assert loop.latest().faults == {"link up": "ZeroDivisionError: bug"}
        assert loop.latest().features() == {"up_probe_age_s": float("inf")}


def test_ten_starts_and_stops_leave_nothing(server):
    clock = SystemClock()
    files, threads = descriptors(), threading.active_count()
    for _ in range(10):
        with ProbeLoop(
            {"up": LinkProbe(EchoProbe("127.0.0.1", server.port), clock)}, {}, 0.01, clock
        ) as loop:
            assert eventually(lambda loop=loop: loop.latest().links["up"].probes >= 2)
    assert threading.active_count() == threads
    assert eventually(lambda: descriptors() <= files)
