"""Transfers watched on real connections: gRPC's own, which nobody hands out, and links that really change."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from datetime import datetime, timezone

import pytest
from testbed_fixture import need

from carbonpilot.real.clock import ManualClock, SystemClock
from carbonpilot.real.probes.own_connections import OwnConnection, Progress, find_connection
from carbonpilot.real.probes.transfer import Transfer
from carbonpilot.real.probes.watch import LEAST_BYTES, TransferWatch, Watched
from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, run_in, unavailable
from carbonpilot.real.testbed.profiles import Profile

grpc = pytest.importorskip("grpc", reason="grpc is not installed: pip install 'carbonpilot[device]'")
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
FRAME = bytes(50_000)


def eventually(condition, limit_s: float = 5.0):
    deadline = time.monotonic() + limit_s
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return held


class Server(grpc.GenericRpcHandler):
    """Answers any call after a while; a context manager."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.server = grpc.server(futures.ThreadPoolExecutor(4), options=OPTIONS, handlers=[self])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request, context):
        time.sleep(self.takes_s)
        return bytes(100)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0).wait()


@contextlib.contextmanager
def calling(address):
    """A gRPC client that has connected."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        call = channel.unary_unary("/any/call")
        call(b"x")
        yield call


@contextlib.contextmanager
def watching(**addresses):
    seen = []
    watch = TransferWatch(addresses, seen.append, SystemClock())
    watch.start()
    assert eventually(lambda: set(watch._connections) == set(addresses))
    try:
        yield watch, seen
    finally:
        watch.stop()


def test_the_connection_of_grpc_is_found_read_and_left_alone():
    with Server() as server, calling(f"localhost:{server.port}") as call:
        found = find_connection(server.address)
        assert found is not None
        descriptor = found._descriptor
        before = found.progress()
        call(FRAME)
        time.sleep(0.05)
        after = found.progress()
        assert after.acked_bytes - before.acked_bytes >= len(FRAME)
        assert after.segments > before.segments
        assert 0 < after.rtt_s < 1
        del found
        gc.collect()
        os.fstat(descriptor)  # still open
        call(FRAME)


def test_a_name_with_both_families_and_an_address_inside_ipv6_are_the_same_end():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with socket.socket(socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1", port))
            assert find_connection(f"127.0.0.1:{port}") is not None
            assert find_connection(f"localhost:{port}") is not None


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:80", "nothing", "127.0.0.1:http"])
def test_what_is_not_connected_is_not_found(address):
    assert find_connection(address) is None


def test_a_connection_that_is_closed_is_told_as_such_and_not_held_open():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            found = find_connection(f"127.0.0.1:{listener.getsockname()[1]}")
            assert found is not None
            assert found.is_open()
            client.close()
            peer.settimeout(5)
            assert peer.recv(10) == b""  # the other end hears of it at once
            assert not found.is_open()
            assert found.progress() is None
            with socket.socket() as other:  # takes the number of the closed one
                assert other.fileno() == found._descriptor
                assert not found.is_open()


def test_a_descriptor_that_is_no_connection_is_refused_or_says_nothing():
    with open("/dev/null") as file, pytest.raises(OSError, match="non-socket"):
        OwnConnection(file.fileno())
    with socket.socket() as unconnected:
        assert OwnConnection(unconnected.fileno()).progress() is None


def test_a_servers_own_time_is_no_part_of_a_transfer():
    with Server(takes_s=0.08) as server, calling(server.address) as call, watching(edge=server.address) as w:
        watch, seen = w
        for _ in range(5):
            watched = watch.begin("edge", len(FRAME))
            began_s = time.monotonic()
            assert watched is not None
            call(FRAME)
            assert watched.over  # before the answer
            assert isinstance(watched.result, Transfer)
            assert watched.result.left_s - began_s < 0.08
            assert watched.result.leaving_s < 0.04
            assert watched.alone
            assert watched.segments >= 1
        assert eventually(lambda: len(seen) == 5)
        # Loopback is fast, and a sleeping server does not make it slower.
        assert sorted(w.result.least_mbps(0.0) for w in seen)[2] > 8e-6 * len(FRAME) / 0.04


def test_small_ones_and_unknown_nodes_are_not_watched_and_one_at_a_time_is():
    with Server(takes_s=0.05) as server, calling(server.address) as call, watching(edge=server.address) as w:
        watch, seen = w
        assert watch.begin("edge", LEAST_BYTES - 1) is None
        assert watch.begin("elsewhere", 10**6) is None
        first = watch.begin("edge", len(FRAME))
        assert first is not None
        assert watch.begin("edge", len(FRAME)) is None  # it goes over the same connection
        assert not first.alone
        call(FRAME)
        assert eventually(lambda: seen == [first])
        assert watch.begin("edge", len(FRAME)) is not None


def test_after_a_new_connection_it_is_found_again():
    with Server() as server, watching_later(server) as (watch, connect):
        with connect() as call:
            assert eventually(lambda: watch.begin("edge", len(FRAME)))
            call(FRAME)
        time.sleep(0.01)
        assert watch.begin("edge", len(FRAME)) is None
        with connect() as call:
            watched = eventually(lambda: watch.begin("edge", len(FRAME)))
            assert watched
            call(FRAME)
            assert eventually(lambda: watched.over)
            assert watched.result is not None


@contextlib.contextmanager
def watching_later(server):
    watch = TransferWatch({"edge": server.address}, lambda watched: None, SystemClock())
    watch.start()
    try:
        yield watch, lambda: calling(server.address)
    finally:
        watch.stop()


def test_a_transfer_that_never_comes_is_given_up(monkeypatch):
    monkeypatch.setattr("carbonpilot.real.probes.watch.GIVE_UP_S", 0.1)
    with Server() as server, calling(server.address), watching(edge=server.address) as (watch, seen):
        watched = watch.begin("edge", len(FRAME))
        assert watched is not None
        assert eventually(lambda: seen == [watched])
        assert watched.result is None
        assert watch.begin("edge", len(FRAME)) is not None


def test_of_a_call_that_is_given_up_the_part_that_arrived_tells_the_rate():
    """400 ms of sending at 1 Mbit/s, given up after 300: 37 kB have arrived."""

    class Slow:
        def progress(self):
            acked = int(max(clock.monotonic_s() - 0.02, 0.0) * 125_000)
            return Progress(acked, 35, 0, 0, 50_000 - acked, 0.02)

    clock = ManualClock(datetime(2026, 1, 1, tzinfo=timezone.utc))
    slow = Slow()
    watched = Watched("edge", slow, Progress(0, 0, 0, 0, 0, 0.02), 50_000, clock.monotonic_s())
    wait_s = 0.0
    while wait_s is not None:
        clock.advance(wait_s)
        if clock.monotonic_s() > 0.3:
            watched.call_over()
        wait_s = watched.look(clock)
    assert clock.monotonic_s() < 0.31
    assert watched.over
    assert not watched.whole
    assert watched.result.rate_mbps == pytest.approx(1.0, rel=0.05)
    assert watched.result.stretched(1.25, 0.01)


def test_an_error_of_who_is_told_ends_nothing_and_stop_leaves_nothing(caplog):
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))

    def broken(watched):
        raise ArithmeticError("a bug")

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0],
    ):
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        watch = TransferWatch({"edge": address}, broken, SystemClock())
        watch.start()
        results = []
        for _ in range(2):
            watched = eventually(lambda: watch.begin("edge", len(FRAME)))
            client.sendall(FRAME)  # into the other end's buffer
            assert eventually(lambda watched=watched: watched.over)
            results.append(watched.result)
        watch.stop()
        assert None not in results
    assert caplog.text.count("Error while learning") == 2
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


# -- over a link that changes ---------------------------------------------------------------------------

SERVER = """
import grpc
from concurrent import futures
class Any(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: bytes(100))
s = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Any()])
s.add_insecure_port("0.0.0.0:7300")
s.start()
print("ready", flush=True)
s.wait_for_termination()
"""
# Twenty calls a second for each line on standard input, then the rate that was found.
CLIENT = """
import json, sys, time
import grpc
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.probes.uplink import UplinkEstimator
from carbonpilot.real.probes.watch import TransferWatch
uplink, again = UplinkEstimator(float(sys.argv[2])), [0, 0]
def learn(watched):
    again[0] += watched.segments
    again[1] += watched.again
    if watched.result is not None:
        uplink.observe(watched.result)
watch = TransferWatch({"edge": sys.argv[1]}, learn, SystemClock())
call = grpc.insecure_channel(sys.argv[1]).unary_unary("/any/call")
call(b"x")
watch.start()
time.sleep(0.1)
for line in sys.stdin:
    took = []
    for _ in range(int(line)):
        watch.begin("edge", 50_000)
        began = time.monotonic()
        call(bytes(50_000))
        took.append(time.monotonic() - began)
        time.sleep(0.05)
        uplink.fold(0.5)
    state = uplink.fold(0.5)
    told = {"rate": uplink._rate_mbps, "shown": float(state.rate_mbps), "assumed": state.assumed, "took": took}
    print(json.dumps({**told, "used": state.used, "segments": again}), flush=True)
"""


@pytest.fixture(scope="module")
def far():
    """A client on the device, and its server, over a link whose rate is changed by hand."""
    need(unavailable())
    fast = Profile("fast", 4.0, 0.0, 0.0, 500.0)
    with Namespaces() as ns, Link(ns.device, ns.server, fast, seed=3) as link:
        server = run_in(ns.server, [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout.readline().strip() == "ready"
            command = [sys.executable, "-c", CLIENT, f"{link.server_address}:7300", "500"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            with run_in(ns.device, command, **pipes) as client:
                yield Far(link, server, client)
                client.stdin.close()
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()
            server.wait()
            server.stdout.close()


class Far:
    def __init__(self, link, server, client):
        self.link, self.server, self.client = link, server, client

    def shape(self, rate_mbps, loss=0.0):
        self.link.shape(Profile("shaped", 4.0, 0.0, loss, rate_mbps))

    def ask(self, count):
        self.client.stdin.write(f"{count}\n")
        self.client.stdin.flush()

    def told(self):
        return json.loads(self.client.stdout.readline())

    def calls(self, count):
        self.ask(count)
        return self.told()

    def calls_with_freezes(self, count, each_s=0.03):
        """Freeze the server's process again and again meanwhile."""
        self.ask(count)
        for _ in range(count // 2):
            self.server.send_signal(signal.SIGSTOP)
            time.sleep(each_s)
            self.server.send_signal(signal.SIGCONT)
            time.sleep(0.06)
        return self.told()


def found(calls, rate_mbps):
    """Whether calls end within 20 % of a rate; on a busy machine the link itself stalls, so there are three trials."""
    return any(calls()["rate"] == pytest.approx(rate_mbps, rel=0.2) for _ in range(3))


def test_a_frozen_server_moves_nothing_and_a_changed_link_is_followed(far):
    fast = far.calls(8)
    assert (fast["rate"], fast["assumed"]) == (500, True)
    frozen = far.calls_with_freezes(12)
    assert max(frozen["took"]) > 0.02  # it was felt
    assert (frozen["rate"], frozen["shown"]) == (500, 500)
    far.shape(20.0)
    assert found(lambda: far.calls(8), 20)
    assert found(lambda: far.calls_with_freezes(12), 20)
    assert not far.calls(1)["assumed"]
    far.shape(8.0)
    assert found(lambda: far.calls(8), 8)
    far.shape(500.0)
    assert found(lambda: far.calls(10), 500)


def test_lost_segments_are_counted_and_are_no_slow_link(far):
    far.shape(500.0)
    before = far.calls(10)
    far.shape(500.0, loss=0.05)
    lossy = far.calls(20)
    far.shape(500.0)
    assert lossy["rate"] == 500
    sent, again = (b - a for a, b in zip(before["segments"], lossy["segments"], strict=True))
    assert sent > 500
    assert 0.01 < again / sent < 0.15
