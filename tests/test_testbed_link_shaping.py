"""What the link does to packets, without namespaces: lanes over socket pairs with a clock of our own; profiles."""

import math
import random
import re
import socket
from dataclasses import asdict

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError, TraceError
from carbonpilot.real.testbed.lane import QUEUE_PACKETS, Jitter, Lane, lateness_ms
from carbonpilot.real.testbed.netem import netem_words
from carbonpilot.real.testbed.profiles import PROFILES, Profile, profile_or_schedule, read_schedule

MBIT = 1e6 / 8


class Wire:
    """A lane between two socket pairs: send at one end, see what comes out at the other."""

    def __init__(self, seed=1):
        self.near, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        sink, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ends = [self.near, source, sink, self.far]
        for s in self.ends:
            s.setblocking(False)
        rng = random.Random(seed)
        self.lane, self.jitter = Lane(source.fileno(), sink.fileno(), rng), Jitter(rng)

    def send(self, now_s, *packets):
        for packet in packets:
            self.near.send(packet)
            while self.lane.read(now_s, self.jitter, 16):
                pass

    def out(self, now_s):
        self.lane.release(now_s, 10_000)
        got = []
        while True:
            try:
                got.append(self.far.recv(4096))
            except BlockingIOError:
                return got

    def close(self):
        for s in self.ends:
            s.close()


@pytest.fixture
def wire():
    w = Wire()
    yield w
    w.close()


def test_a_packet_waits_for_the_delay_and_no_longer(wire):
    wire.lane.shape(0.015, 0.0, 0.0, math.inf, False)
    wire.send(10.0, b"a")
    assert wire.lane.due_s == pytest.approx(10.015)
    assert wire.out(10.014) == []
    assert wire.out(10.016) == [b"a"]
    assert wire.lane.due_s == math.inf


def test_the_rate_spaces_packets_out(wire):
    wire.lane.shape(0.0, 0.0, 0.0, 1 * MBIT, False)
    wire.send(0.0, *[bytes(1250)] * 3)  # 10 ms each at 1 Mbit/s
    assert [len(wire.out(t)) for t in (0.009, 0.0101, 0.0199, 0.0201, 0.0301)] == [0, 1, 0, 1, 1]


def test_order_is_kept_when_the_delay_falls(wire):
    wire.lane.shape(0.05, 0.0, 0.0, math.inf, False)
    wire.send(0.0, b"first")
    wire.lane.shape(0.001, 0.0, 0.0, math.inf, False)
    wire.send(0.01, b"second")
    assert wire.out(0.049) == []
    assert wire.out(0.051) == [b"first", b"second"]


def test_loss_takes_its_share_packet_by_packet(wire):
    wire.lane.shape(0.0, 0.0, 0.2, math.inf, False)
    n = 4000
    for i in range(n):
        wire.send(float(i), b"x")
        wire.out(float(i))
    # Five standard deviations of a binomial share.
    assert wire.lane.lost / n == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / n))
    assert wire.lane.lost + wire.lane.packets == n


def test_an_outage_lets_nothing_in_but_what_is_under_way_arrives(wire):
    wire.lane.shape(0.01, 0.0, 0.0, math.inf, False)
    wire.send(0.0, b"before")
    wire.lane.shape(0.01, 0.0, 0.0, math.inf, True)
    wire.send(0.001, b"during")
    wire.lane.shape(0.01, 0.0, 0.0, math.inf, False)
    wire.send(0.002, b"after")
    assert wire.out(1.0) == [b"before", b"after"]
    assert wire.lane.counts()["cut"] == 1


def test_the_queue_has_a_limit_and_empties_at_the_rate(wire):
    wire.lane.shape(0.0, 0.0, 0.0, 1 * MBIT, False)
    wire.send(0.0, *[bytes(125)] * (QUEUE_PACKETS + 7))  # 1 ms each
    assert wire.lane.overflowed == 7
    wire.send(0.5, b"room again")
    assert wire.lane.overflowed == 7
    assert sum(len(wire.out(t / 10)) for t in range(1, 12)) == QUEUE_PACKETS + 1


def test_a_long_delay_does_not_fill_the_queue(wire):
    wire.lane.shape(10.0, 0.0, 0.0, 1000 * MBIT, False)
    for i in range(QUEUE_PACKETS + 100):
        wire.send(0.001 * i, b"x")
    assert wire.lane.overflowed == 0


def test_jitter_is_gaussian_and_slow():
    jitter = Jitter(random.Random(3))
    step_s = 0.02
    units = np.array([jitter.unit(i * step_s) for i in range(60_000)])
    assert units.mean() == pytest.approx(0.0, abs=0.06)
    assert units.std() == pytest.approx(1.0, abs=0.04)
    assert np.corrcoef(units[5:], units[:-5])[0, 1] == pytest.approx(math.exp(-1.0), abs=0.04)


def test_packets_of_one_burst_share_the_jitter(wire):
    wire.lane.shape(0.03, 0.01, 0.0, math.inf, False)
    wire.send(5.0, b"a", b"b", b"c")
    due = wire.lane.due_s
    assert due != 5.03
    assert len(wire.out(due + 1e-9)) == 3


def test_delay_never_falls_below_zero(wire):
    wire.lane.shape(0.001, 0.5, 0.0, math.inf, False)
    for i in range(50):
        wire.send(float(i), b"x")
        assert wire.lane.due_s >= i
        wire.out(float(i) + 100)


def test_lateness_is_what_release_adds(wire):
    wire.lane.shape(0.01, 0.0, 0.0, math.inf, False)
    for i in range(100):
        wire.send(float(i), b"x")
        wire.out(i + (0.0105 if i else 0.0145))
    late = lateness_ms([wire.lane])
    assert late["p50"] == pytest.approx(0.5, abs=0.11)
    assert late["max"] == pytest.approx(4.5, abs=0.01)
    wire.lane.reset()
    assert lateness_ms([wire.lane]) == {"p50": 0.0, "p99": 0.0, "max": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": 1.5}, "loss must be from 0 to 1.*share"),
        ({"loss": -0.1}, "loss must be"),
        ({"rtt_ms": -1.0}, "rtt_ms must be 0 or more"),
        ({"rtt_jitter_ms": math.nan}, "rtt_jitter_ms"),
        ({"rate_mbps": 0.0}, "rate_mbps must be above 0"),
        ({"rate_mbps": math.inf}, "rate_mbps"),
    ],
)
def test_a_profile_no_link_can_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Profile(**asdict(PROFILES["lan"]) | change)


def test_the_profiles_are_those_of_the_recorded_uploads():
    assert set(PROFILES) == {"lan", "clean-30", "emu-a", "emu-b", "outage"}
    emu_b = PROFILES["emu-b"]
    assert (emu_b.rtt_ms, emu_b.rtt_jitter_ms, emu_b.loss, emu_b.rate_mbps) == (60.0, 20.0, 0.01, 50.0)
    assert [p.name for p in PROFILES.values() if p.outage] == ["outage"]
    with pytest.raises(InputError, match="emu-a"):
        profile_or_schedule("emu-aa")


TRACE = "time_s,rtt_ms,loss_pct,down_mbps,up_mbps\n0,40,0,,10\n1,50,10,,20\n2,,100,,20\n3,60,0,,30\n"


def trace_file(tmp_path, text):
    path = tmp_path / "drive.csv"
    path.write_text(text)
    return path


def test_a_recording_becomes_a_schedule(tmp_path):
    schedule = profile_or_schedule(str(trace_file(tmp_path, TRACE)))
    assert schedule.times_s == (0.0, 1.0, 2.0, 3.0)
    assert schedule.end_s == 4.0
    assert [p.outage for p in schedule.profiles] == [False, False, True, False]
    assert [p.rtt_ms for p in schedule.profiles][::3] == [40.0, 60.0]
    assert schedule.profiles[1].loss == pytest.approx(0.1)
    assert [p.rate_mbps for p in schedule.profiles] == pytest.approx([10.0, 20.0, 20.0, 30.0])


def test_a_recording_without_a_rate_needs_one(tmp_path):
    path = trace_file(tmp_path, re.sub(r",[123]0\n", ",\n", TRACE))
    with pytest.raises(InputError, match="--rate-mbps"):
        read_schedule(path)
    assert {p.rate_mbps for p in read_schedule(path, rate_mbps=25.0).profiles} == {25.0}


def test_gaps_are_left_out_and_counted(tmp_path):
    schedule = read_schedule(trace_file(tmp_path, TRACE.replace("3,60", "30,60")))
    assert schedule.cuts == 1
    assert len(schedule.profiles) == 4


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (TRACE.replace("1,50", "1,-50"), TraceError, "drive.csv:3.*rtt_ms"),
        (TRACE.replace(",10,,20", ",110,,20"), TraceError, "loss_pct"),
        (TRACE.replace("1,50", "0,50"), TraceError, "same time"),
        ("time_s,rtt_ms,loss_pct,down_mbps,up_mbps\n0,,100,,5\n1,,100,,5\n", InputError, "round-trip time"),
    ],
)
def test_a_broken_recording_names_the_place(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_schedule(trace_file(tmp_path, text))


def test_netem_gets_the_same_numbers():
    profile = asdict(PROFILES["emu-b"])
    up, down = netem_words(profile, 1.0, loss=True), netem_words(profile, 1.0, loss=False)
    assert up == ["delay", "40000us", "loss", "1%", "rate", "50000000bit", "limit", str(QUEUE_PACKETS)]
    assert down[3] == "0%"
    assert netem_words(profile, -10.0, loss=True)[1] == "0us"
    assert netem_words(profile | {"outage": True}, 0.0, loss=False)[3] == "100%"
