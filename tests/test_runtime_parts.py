"""The runtime's small parts: pace, accounts, savings, servers that come late, the page's server."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_runtime_engine import VirtualLoop, answer
from test_runtime_log import frame_line

from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.simulator import Simulator
from carbonpilot.real.executors.triton_checks import UnreachableServerError
from carbonpilot.real.interfaces import ExecutorError, Frame
from carbonpilot.real.runtime.accounts import Accounts, Surroundings
from carbonpilot.real.runtime.calls import Call
from carbonpilot.real.runtime.feeder import AsTheyCome, FrameThread, OneByOne, Steady, feed, pace_of
from carbonpilot.real.runtime.http_server import StatusServer, parse_listen
from carbonpilot.real.runtime.late_executor import LateExecutor
from carbonpilot.real.runtime.quantile import quantile
from carbonpilot.real.runtime.savings import Savings
from carbonpilot.real.site_file import NodeLevels

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


# Accounts.


def call(placement, began_s, ended_s, payload=30_000, error=None):
    made = Call(placement, began_s, payload, began_s=began_s, ended_s=ended_s, error=error)
    made.answer = None if error else answer()
    return made


WORLD = Surroundings(
    {"local": 400.0, "edge": 50.0, "network of uplink": 300.0}, {"edge": 0.0}, {"uplink": 8.0}
)
LEVELS = {"edge": NodeLevels(node_sha256="0" * 64, load=[0.0, 0.5], wait_ms=[0.0, 5.0], batch=[1.0, 4.0])}


def accounts(tiny_scenario, **changes):
    return Accounts(tiny_scenario(**changes), LEVELS)


def test_a_batch_shares_its_fixed_energy(tiny_scenario):
    busy = Surroundings(WORLD.carbon_g_per_kwh, {"edge": 0.6}, WORLD.uplink_mbps)
    ours = accounts(tiny_scenario)
    alone = ours.charge([call("edge-b0", 0, 0.05)], 0.0, WORLD)
    shared = ours.charge([call("edge-b0", 1, 1.05)], 0.0, busy)
    assert alone.server_energy_j == pytest.approx(1.2 * 2.0)
    assert shared.server_energy_j == pytest.approx(1.2 * (1.5 / 4 + 0.5))


@pytest.mark.parametrize(
    ("error", "sent", "served"),
    [(None, 1, 1), ("timeout", 1, 1), ("wrong-answer", 1, 1), ("model-error", 1, 1), ("cancelled", 1, 1),
     ("rejected", 1, 0), ("unreachable", 0, 0)],
)  # fmt: skip
def test_what_a_call_costs_by_how_it_ended(tiny_scenario, error, sent, served):
    charge = accounts(tiny_scenario).charge([call("edge-b0", 0, 0.05, error=error)], 0.0, WORLD)
    assert charge.network_energy_j == pytest.approx(sent * 30_000 * 8 * 10e-9)
    assert charge.server_energy_j == pytest.approx(served * 2.4)


def test_a_call_that_never_had_its_turn_costs_nothing(tiny_scenario):
    waiting = Call("local", 0.0, 0, ended_s=1.0, error="cancelled")
    charge = accounts(tiny_scenario).charge([waiting], 0.0, WORLD)
    assert charge.energy_j_attributional == 0
    assert charge.carbon_mg_attributional == 0


def test_the_radios_tail_is_paid_by_who_lengthens_it(tiny_scenario):
    radio = {"transmit_power_w": 1.5, "tail_power_w": 0.6, "tail_s": 2.0}
    ours = accounts(tiny_scenario, device={"radio": radio})
    sending_s = 30 * 8e-3 / 8.0  # 30 kB at 8 Mbit/s
    first = ours.charge([call("edge-b0", 10.0, 10.1)], 0.0, WORLD)
    assert first.radio_energy_j == pytest.approx(1.5 * sending_s + 0.6 * 2.0)
    second = ours.charge([call("edge-b0", 11.0, 11.1)], 0.0, WORLD)
    left_s = 10.0 + sending_s + 2.0 - 11.0  # of the first tail
    assert second.radio_energy_j == pytest.approx(1.5 * sending_s + 0.6 * (2.0 - left_s))
    unknown = Surroundings(WORLD.carbon_g_per_kwh, {}, {"uplink": None})
    third = ours.charge([call("edge-b0", 50.0, 50.2)], 0.0, unknown)
    assert third.radio_energy_j == pytest.approx(1.5 * 0.2 + 0.6 * 2.0)  # at most all of the call


def test_the_devices_energy_is_corrected_by_what_its_meter_says(tiny_scenario):
    charge = accounts(tiny_scenario).charge([call("local", 0, 0.09)], 0.5, WORLD, correction=1.3)
    assert charge.compute_energy_j == pytest.approx(1.3)
    assert charge.device_idle_energy_j == pytest.approx(2.0)  # 4 W for 0.5 s


@given(known=st.fixed_dictionaries({k: st.booleans() for k in WORLD.carbon_g_per_kwh}))
def test_carbon_is_known_exactly_if_every_grid_in_it_is(known):
    from conftest import TINY

    from carbonpilot.envs.schema import Scenario
    from carbonpilot.envs.validation import validated

    world = Surroundings({k: 100.0 if known[k] else None for k in known}, {}, {"uplink": 8.0})
    ours = Accounts(validated(Scenario, TINY, "tiny"), LEVELS)
    remote = ours.charge([call("edge-b0", 0, 0.05)], 0.1, world)
    assert (remote.carbon_mg_marginal is not None) == (known["edge"] and known["network of uplink"])
    assert (remote.carbon_mg_attributional is not None) == all(known.values())
    if all(known.values()):
        assert remote.carbon_mg_attributional == pytest.approx(remote.energy_j_attributional * 100 / 3600)
    local = ours.charge([call("local", 0, 0.05)], 0.1, world)
    assert (local.carbon_mg_attributional is not None) == known["local"]


def test_the_accounts_agree_with_the_simulator(tiny_scenario):
    """The same placements on a tape: compute, network and server energy are the simulator's to rounding."""
    scenario = tiny_scenario(nodes={"edge": {"background": None}})
    simulator = Simulator(scenario, 1)
    simulator.reset([3])
    payload_kb = float(np.asarray(simulator.tape.payload_kb).ravel()[0])
    theirs = simulator.preview()
    ours = Accounts(scenario, LEVELS)
    for number, placement in enumerate(("local", "edge-b0")):
        made = call(placement, 0.0, 0.05, payload=round(payload_kb * 1000))
        charge = ours.charge([made], 0.0, WORLD)
        for term in ("compute_energy_j", "network_energy_j", "server_energy_j"):
            assert getattr(charge, term) == pytest.approx(
                float(getattr(theirs[number], term)[0]), rel=1e-4
            ), term


# Savings.


def test_savings_compare_with_what_was_believed_then(tiny_scenario):
    scenario = tiny_scenario()
    table = build_table(scenario)
    raw = dict.fromkeys(table.names, 0.0)
    raw |= {"local_carbon_mg": 0.2, "edge-b0_carbon_mg": 0.05, "edge-b0_latency_ms": 40.0}

    def line(**changes):
        content = {"observation": table.encode(raw | changes.pop("raw", {})).tolist(), "placement": "edge-b0"}
        return frame_line(0, **{**content, "executed": "edge-b0", "carbon_mg_marginal": 0.06, **changes})

    ours = Savings(scenario, table, "active")
    ours.add(line())
    ours.add(line(executed=None))  # no result, no saving
    ours.add(line(carbon_mg_marginal=None))
    ours.add(line(observation=None))
    ours.add(line(raw={"local_carbon_mg": 1e9}))  # unknown shows as the worst there is
    assert ours.totals["always-local"].frames == 1
    assert ours.totals["always-local"].saved_mg == pytest.approx(0.14, abs=1e-6)
    assert ours.totals["always-offload"].frames == 2
    assert ours.totals["always-offload"].saved_mg == pytest.approx(-0.02, abs=1e-6)
    ours.add(line(mask=[1, 0]))  # no server was allowed: offloading was no choice
    assert ours.totals["always-offload"].frames == 2
    shadow = Savings(scenario, table, "shadow")
    shadow.add(line(executed="local", carbon_mg_marginal=0.21))
    assert shadow.totals["always-local"].saved_mg == pytest.approx(0.15, abs=1e-6)


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


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_the_share_does_not_exceed(values, q):
    found = quantile(values, q)
    assert found in values
    assert sum(v <= found for v in values) >= q * len(values) - 1e-9
    assert sum(v < found for v in values) < q * len(values)
