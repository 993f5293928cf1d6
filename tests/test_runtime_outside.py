"""The runtime towards the outside: the pace of frames, servers that come late, the page's server."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from engine_fixture import VirtualLoop, answer

from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.real.executors.triton_checks import UnreachableServerError
from carbonpilot.real.interfaces import ExecutorError, Frame
from carbonpilot.real.runtime.feeder import AsTheyCome, FrameThread, OneByOne, Steady, feed, pace_of
from carbonpilot.real.runtime.http_server import StatusServer, parse_listen
from carbonpilot.real.runtime.late_executor import LateExecutor

# Pace.


def frame(index: int, captured_s: float = 0.0) -> Frame:
    return Frame(index, str(index), np.zeros((32, 32, 3), np.uint8), None, captured_s)


class LoopTime:
    def monotonic_s(self):
        return asyncio.get_running_loop().time()


class Room:
    """Stands for the engine: takes frames, has room when it is told so."""

    def __init__(self, has_room=lambda n: True) -> None:
        self.issued, self._has_room = [], has_room

    @property
    def has_room(self):
        return self._has_room(len(self.issued))

    async def room(self):
        await asyncio.sleep(1.0)
        self._has_room = lambda n: True

    async def idle(self):
        await asyncio.sleep(0.25)

    def offer(self, frame, issued_s):
        self.issued.append(issued_s)


class Ready:
    """Frames that are there at once."""

    def __init__(self, count: int) -> None:
        self.left = list(range(count))

    async def get(self):
        return frame(self.left.pop(0)) if self.left else None


def played(pace, count=5, overload="skip", room=None):
    loop = VirtualLoop()
    engine = room or Room()
    try:
        loop.run_until_complete(feed(engine, Ready(count), pace, overload, LoopTime()))
    finally:
        loop.close()
    return [round(t - engine.issued[0], 3) for t in engine.issued]


def test_a_steady_pace_keeps_its_timetable():
    assert played(Steady(10, LoopTime())) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.0011)


def test_one_by_one_waits_for_results():
    assert played(OneByOne(LoopTime())) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_frames_that_wait_for_room_are_issued_then_and_no_burst_follows():
    times = played(Steady(10, LoopTime()), overload="wait", room=Room(lambda n: n < 2))
    assert times == pytest.approx([0.0, 0.1, 1.2, 1.3, 1.4], abs=0.004)


def test_a_cameras_frames_are_issued_when_they_were_taken():
    assert asyncio.run(AsTheyCome().due(Room(), frame(0, captured_s=12.5))) == 12.5


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_cannot_be(rate):
    with pytest.raises(InputError, match="frame rate"):
        Steady(rate, LoopTime())


def test_the_sites_arrivals_give_the_pace(tiny_scenario):
    clock = LoopTime()
    assert pace_of(tiny_scenario(), clock, None, False)._gap_s == pytest.approx(0.1)  # 9 to 11 a second
    assert pace_of(tiny_scenario(), clock, 4.0, False)._gap_s == 0.25
    assert isinstance(pace_of(tiny_scenario(), clock, None, True), AsTheyCome)
    closed = tiny_scenario(arrivals={"kind": "closed_loop"})
    assert isinstance(pace_of(closed, clock, None, False), OneByOne)


def test_a_source_that_fails_ends_the_stream_with_its_error():
    def source():
        yield frame(0)
        raise CarbonPilotError("the camera is gone")

    async def go():
        thread = FrameThread(source())
        assert (await thread.get()).index == 0
        with pytest.raises(CarbonPilotError, match="the camera is gone"):
            await thread.get()

    asyncio.run(go())


def test_a_source_is_read_ahead_but_not_without_end():
    read = []

    def source():
        for i in range(1000):
            read.append(i)
            yield frame(i)

    async def go():
        thread = FrameThread(source(), ahead=3)
        assert (await thread.get()).index == 0
        await asyncio.sleep(0.3)
        assert len(read) <= 6
        thread.stop()

    asyncio.run(go())


# Servers that come late.


class Inner:
    placement, provider = "edge-b0", "not started"

    def __init__(self, *starts):
        self.starts, self.closed = list(starts), 0

    async def start(self):
        if (error := self.starts.pop(0)) is not None:
            raise error
        self.provider = "triton"

    def payload_bytes(self, frame):
        return 5

    async def execute(self, frame, timeout_s):
        return answer()

    async def close(self):
        self.closed += 1


def test_a_server_that_comes_late_is_used_from_then_on():
    inner = Inner(UnreachableServerError("nobody there"), UnreachableServerError("nobody there"), None)

    async def go():
        late = LateExecutor(inner, retry_s=0.02)
        await late.start()
        assert late.provider == "no answer yet"
        with pytest.raises(ExecutorError, match="has not answered since the start") as caught:
            await late.execute(frame(0), 1.0)
        assert caught.value.kind == "unreachable"
        while late.provider != "triton":
            await asyncio.sleep(0.01)
        assert (await late.execute(frame(0), 1.0)).mask.shape == (8, 8)
        await late.close()

    asyncio.run(go())
    assert inner.closed == 1


def test_a_late_server_with_another_model_is_told_and_left_alone(caplog):
    inner = Inner(UnreachableServerError("nobody there"), InputError("it serves another model"))

    async def go():
        late = LateExecutor(inner, retry_s=0.01)
        await late.start()
        while late.refused is None:
            await asyncio.sleep(0.01)
        with pytest.raises(ExecutorError, match="another model"):
            await late.execute(frame(0), 1.0)
        await late.close()
        await late.close()

    asyncio.run(go())
    assert "It is not used" in caplog.text


def test_a_wrong_server_at_the_start_is_refused_at_once():
    late = LateExecutor(Inner(InputError("it serves another model")))
    with pytest.raises(InputError, match="another model"):
        asyncio.run(late.start())


# The page's server.


@pytest.fixture
def server():
    def broken():
        raise RuntimeError("a bug")

    content = SimpleNamespace(metrics=lambda: b"up 1\n", status=lambda: {"a": 1})
    with_server = StatusServer("127.0.0.1:0", lambda: content.metrics(), lambda: content.status()).start()
    with_server.content, with_server.broken = content, broken
    yield with_server
    with_server.stop()


def test_a_page_that_cannot_be_made_is_an_error_and_the_server_goes_on(server, caplog):
    server.content.status = server.broken
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(server.address + "status.json", timeout=5)
    with urllib.request.urlopen(server.address + "metrics", timeout=5) as got:
        assert got.read() == b"up 1\n"
    assert "a bug" in caplog.text


def test_clients_that_say_nothing_do_not_lock_others_out(server):
    host, port = server.address.removeprefix("http://").strip("/").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(10)]
    with urllib.request.urlopen(server.address, timeout=5) as got:
        assert b"<!doctype html>" in got.read()
    for connection in silent:
        connection.close()


def test_nothing_but_reading_is_understood(server):
    request = urllib.request.Request(server.address, data=b"x=1")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request, timeout=5)
    head = urllib.request.Request(server.address + "metrics", method="HEAD")
    with urllib.request.urlopen(head, timeout=5) as got:
        assert got.read() == b""
        assert got.headers["Content-Length"] == "5"


def test_addresses():
    assert parse_listen("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert parse_listen("[::1]:0") == ("::1", 0)
    for wrong in ("9464", ":9464", "host:", "host:99999", "host:x"):
        with pytest.raises(InputError, match="HOST:PORT"):
            parse_listen(wrong)
