"""The link between real namespaces: real packets, changed while they flow, and nothing left after a killed run."""

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from testbed_fixture import control_used

from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.transfer.recording import read_uploads
from carbonpilot.real.probes.tcp_info import read_tcp_info
from carbonpilot.real.testbed import namespaces
from carbonpilot.real.testbed.link import Link, LinkControl
from carbonpilot.real.testbed.namespaces import (
    Namespaces,
    existing,
    inside,
    leftovers,
    remove_leftovers,
    run_in,
    set_sysctl,
    unavailable,
)
from carbonpilot.real.testbed.profiles import PROFILES, Profile, Schedule
from carbonpilot.real.testbed.uploads import Job, UploadBed
from carbonpilot.real.testbed.uploads_file import COLUMNS, measure_with_rig, write_summary, write_uploads

pytestmark = pytest.mark.skipif(
    unavailable() is not None or not os.path.exists("/dev/net/tun"),
    reason=f"no test bed here: {unavailable() or '/dev/net/tun is missing'}",
)
FAST = Profile("fast", 4.0, 0.0, 0.0, 1000.0)
WAIT_S = 10.0


@pytest.fixture(scope="module")
def bed():
    with Namespaces() as ns, Link(ns.device, ns.server, FAST, seed=5) as link:
        yield ns, link


class Echo:
    """A UDP echo in the server's namespace, and a client in the device's."""

    def __init__(self, ns, link):
        with inside(ns.server):
            self.server = socket.socket(type=socket.SOCK_DGRAM)
            self.server.bind((link.server_address, 0))
        with inside(ns.device):
            self.client = socket.socket(type=socket.SOCK_DGRAM)
            self.client.connect(self.server.getsockname())
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        while True:
            data, peer = self.server.recvfrom(2048)
            if data == b"end":
                return
            self.server.sendto(data, peer)

    def passes(self, timeout_s):
        """Whether one packet comes back in that time."""
        self.client.settimeout(timeout_s)
        self.client.send(b"ping")
        with contextlib.suppress(TimeoutError):
            return self.client.recv(100) == b"ping"
        return False

    def close(self):
        end = socket.socket(type=socket.SOCK_DGRAM)
        self.client.send(b"end")
        self.thread.join(WAIT_S)
        for s in (self.server, self.client, end):
            s.close()


@pytest.fixture
def echo(bed):
    ns, link = bed
    link.shape(FAST)
    link.counters(reset=True)
    echo = Echo(ns, link)
    yield echo
    link.shape(FAST)
    echo.close()


def test_packets_take_at_least_the_round_trip_and_are_counted(bed, echo):
    _, link = bed
    link.shape(Profile("slow", 80.0, 0.0, 0.0, 1000.0))
    start_s = time.perf_counter()
    assert echo.passes(WAIT_S)
    assert time.perf_counter() - start_s >= 0.08
    counted = link.counters()
    assert (counted["up"]["packets"], counted["down"]["packets"]) == (1, 1)
    assert counted["up"]["bytes"] == 28 + 4  # IP and UDP headers, "ping"
    assert counted["profile"]["name"] == link.profile.name == "slow"
    assert link.kind == counted["kind"]


def test_an_outage_holds_from_the_moment_shape_returns(bed, echo):
    _, link = bed
    assert echo.passes(WAIT_S)
    link.shape(FAST.cut())
    assert not echo.passes(0.1)
    link.shape(FAST)
    assert echo.passes(WAIT_S)
    assert link.counters()["up"]["cut"] == 1


def test_loss_is_on_the_way_up_only_and_tcp_repairs_it(bed, echo):
    ns, link = bed
    link.shape(Profile("lossy", 4.0, 0.0, 0.2, 1000.0))
    with inside(ns.server):
        listener = socket.create_server((link.server_address, 0))
    with inside(ns.device), socket.create_connection(listener.getsockname()[:2]) as sender:
        taker, _ = listener.accept()
        with listener, taker:
            sender.sendall(bytes(60_000))
            got = 0
            while got < 60_000:
                got += len(taker.recv(60_000))
            info = read_tcp_info(sender)
    counted = link.counters()
    assert counted["down"]["lost"] == 0
    assert counted["up"]["lost"] > 0
    assert info is not None
    assert info.total_retrans > 0


def test_a_schedule_plays_by_itself_and_says_when_it_has_ended(bed, echo):
    _, link = bed
    link.play(Schedule("short", (0.0, 0.2), (FAST.cut(), FAST), end_s=0.3))
    assert not echo.passes(0.1)
    assert any(echo.passes(0.1) for _ in range(100))
    until = time.monotonic() + WAIT_S
    while not link.status()["schedule"]["ended"] and time.monotonic() < until:
        time.sleep(0.02)
    assert link.status()["schedule"] == {"step": 2, "steps": 2, "ended": True}
    link.shape(FAST)
    assert link.status()["schedule"] is None


def test_another_process_can_change_the_link(bed, echo):
    _, link = bed
    code = (
        "import sys; from carbonpilot.real.testbed.link import LinkControl\n"
        "from carbonpilot.real.testbed.profiles import PROFILES\n"
        "LinkControl(sys.argv[1]).shape(PROFILES['outage'])"
    )
    subprocess.run([sys.executable, "-c", code, str(link.control)], check=True)
    assert link.profile == PROFILES["outage"]
    assert not echo.passes(0.05)


def test_orders_that_make_no_sense_leave_the_link_alive(bed, echo):
    _, link = bed
    with pytest.raises(CarbonPilotError, match=r"refused dance.*unknown order"):
        link._ask({"do": "dance"})
    with pytest.raises(CarbonPilotError, match="refused shape"):
        link._ask({"do": "shape", "profile": {}})
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(link.control))
    client.close()  # one that leaves without a word
    assert echo.passes(WAIT_S)


def test_a_command_runs_inside_and_gets_its_signals(bed):
    ns, _ = bed
    process = run_in(ns.server, ["sleep", "60"])
    inside_there = os.readlink(f"/proc/{process.pid}/ns/net")
    until = time.monotonic() + WAIT_S
    while inside_there == os.readlink("/proc/self/ns/net") and time.monotonic() < until:
        inside_there = os.readlink(f"/proc/{process.pid}/ns/net")
    assert inside_there != os.readlink("/proc/self/ns/net")
    process.terminate()
    assert process.wait(WAIT_S) == -signal.SIGTERM


def test_the_thread_comes_back_from_inside_also_after_an_error(bed):
    ns, _ = bed
    home = os.readlink("/proc/thread-self/ns/net")
    with contextlib.suppress(ZeroDivisionError), inside(ns.device):
        assert os.readlink("/proc/thread-self/ns/net") != home
        raise ZeroDivisionError
    assert os.readlink("/proc/thread-self/ns/net") == home
    with pytest.raises(InputError, match="does not exist"), inside("carbonpilot-none"):
        pass


def test_sysctls_are_set_inside_only(bed):
    ns, _ = bed
    key = Path("/proc/sys/net/ipv4/tcp_slow_start_after_idle")
    before = key.read_text()
    set_sysctl(ns.device, "net.ipv4.tcp_slow_start_after_idle", 0)
    with inside(ns.device):
        assert key.read_text().strip() == "0"
    assert key.read_text() == before
    set_sysctl(ns.device, "net.ipv4.tcp_slow_start_after_idle", 1)
    with pytest.raises(InputError, match="was refused"):
        set_sysctl(ns.device, "net.ipv4.tcp_congestion_control", "nosuch")


def controls_used(ns, link, asked=None):
    """Congestion control of a connection whose device asked for this one, or for none: the device's, the server's."""
    with inside(ns.server):
        listener = socket.create_server((link.server_address, 0))
    with listener, inside(ns.device), socket.socket() as sender:
        if asked:
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, asked)
        sender.connect(listener.getsockname()[:2])
        with listener.accept()[0] as answering:
            return control_used(sender), control_used(answering)


def test_the_link_chooses_the_congestion_control_of_hidden_sockets(bed):
    ns, link = bed
    assert (link.congestion_control, link.reply_congestion_control) == controls_used(ns, link)
    with Link(
        ns.device, ns.server, FAST, subnet=3, congestion_control="cubic", reply_congestion_control="reno"
    ) as other:
        assert controls_used(ns, other) == controls_used(ns, other, b"reno") == ("cubic", "reno")
    with Link(ns.device, ns.server, FAST, subnet=3, congestion_control=None) as other:
        assert controls_used(ns, other, b"reno") == ("reno", namespaces.kernel_congestion_control(ns.server))
    names = {"congestion_control": "nosuch", "reply_congestion_control": "neither"}
    with Link(ns.device, ns.server, FAST, subnet=3, **names) as other:
        default = namespaces.kernel_congestion_control(ns.device)
        assert (other.congestion_control, other.reply_congestion_control) == (default, default)
        assert controls_used(ns, other) == (default, default)


def test_a_second_link_at_the_same_socket_is_refused(bed):
    ns, link = bed
    with pytest.raises(InputError, match="Another link answers"):
        Link(ns.device, ns.server, control=link.control, subnet=9).__enter__()
    assert link.running()


def test_a_link_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CarbonPilotError, match=r"does not answer.*Is the test bed up"):
        LinkControl(tmp_path / "link.sock").shape(FAST)


def test_a_link_into_a_namespace_that_does_not_exist(bed):
    ns, _ = bed
    with pytest.raises(CarbonPilotError, match=r"did not start.*does not exist"):
        Link(ns.device, "carbonpilot-none", kind="tun", subnet=8).__enter__()


KILLED = """
import sys, time
from carbonpilot.real.testbed.namespaces import Namespaces, run_in
from carbonpilot.real.testbed.link import Link
with Namespaces() as ns, Link(ns.device, ns.server) as link:
    sleeper = run_in(ns.server, ["sleep", "300"])
    print(link.pid, sleeper.pid, ns.device, flush=True)
    time.sleep(300)
"""


def test_what_a_killed_run_left_is_found_and_removed(bed):
    mine = existing()
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    relay, sleeper, device = process.stdout.readline().split()
    assert device in existing()
    assert device not in leftovers()
    process.kill()
    process.wait()
    process.stdout.close()
    assert device in leftovers()
    assert device in remove_leftovers()
    assert set(mine) <= set(existing())  # those of living runs stay
    assert device not in existing()
    until = time.monotonic() + WAIT_S
    while any(os.path.exists(f"/proc/{pid}") for pid in (relay, sleeper)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{relay}"), "the link must end with its owner"
    assert not os.path.exists(f"/proc/{sleeper}"), "what ran inside must end with the namespace"


def test_a_name_whose_number_was_taken_again_is_a_leftover():
    alive = f"{namespaces.PREFIX}{namespaces.owner(os.getpid())}-0-device"
    taken_again = f"{namespaces.PREFIX}{os.getpid()}-1-0-device"
    assert namespaces._owner_lives(alive)
    assert not namespaces._owner_lives(taken_again)
    assert not namespaces._owner_lives(f"{namespaces.PREFIX}odd")


@pytest.mark.parametrize("sides", [("device",), ("a", "a"), ("device", "ser-ver")])
def test_sides_must_differ_and_be_words(sides):
    with pytest.raises(InputError, match="two or more different sides"):
        Namespaces(sides)


def test_measured_uploads_are_a_recording_for_the_model(tmp_path):
    out = tmp_path / "uploads.csv"
    jobs = [
        Job(PROFILES["lan"], control, 30_000, connection, 5)
        for control in ("cubic", "bbr" if "bbr" in available() else "reno")
        for connection in range(2)
    ]
    with UploadBed(links=2) as bed:
        done = list(measure_with_rig(bed, jobs))
        with pytest.raises(InputError, match="no congestion control 'nosuch'"):
            bed.connect(bed.links[0], "nosuch")
    rigs = {measured.job.congestion_control: rig for measured, rig in done}
    assert len(set(rigs.values())) == 2, "measured anew for each kind of connection"
    assert all(0.05 < rig.rtt_ms < 20 and 0.5 < rig.packet_us < 200 for rig in rigs.values())
    write_uploads(out, done)
    write_summary(tmp_path / "summary.json", done)
    assert out.read_text().splitlines()[0] == ",".join(COLUMNS)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["congestion_control"] == "bbr":
            assert float(row["bbr_min_rtt_ms"]) < 20
            assert 1 < float(row["bbr_bandwidth_mbps"]) < 20_000
        else:
            assert row["bbr_min_rtt_ms"] == row["bbr_bandwidth_mbps"] == ""
    cell = read_uploads(out)["lan", "cubic", 30_000]
    kept = sum(m.kept for m, _ in done if m.job.congestion_control == "cubic")
    assert len(cell.connections) == kept
    assert all(len(uploads) == 5 for uploads in cell.connections.values())
    assert (cell.rig_rtt_ms, cell.rig_packet_us) == (rigs["cubic"].rtt_ms, rigs["cubic"].packet_us)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rig_rtt_ms"]["least"] == min(rig.rtt_ms for rig in rigs.values())
    # Two milliseconds of round trip, at least on average.
    assert min(min(uploads) for uploads in cell.connections.values()) > 0.3


def available():
    return Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
