"""The whole test bed: the device reaches the servers over its link and nowhere else; nothing outlives it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from testbed_fixture import control_used, need

from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.real.testbed.bed import BedSettings, Testbed, unavailable
from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import existing, inside, owner
from carbonpilot.real.testbed.profiles import PROFILES, Profile, Schedule
from carbonpilot.real.testbed.repository.settings import ModelSet, ServedModel
from carbonpilot.real.testbed.server import Ports
from carbonpilot.real.testbed.server_leftovers import PREFIX, server_processes

ONE = ModelSet(models=[ServedModel(name="one", forms=["uint8"], service_ms=2.0)])

# What a device does: one image to the server, the answer's shape or the error's kind.
CLIENT = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

address, model, timeout_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
with triton.InferenceServerClient(address) as client:
    given = triton.InferInput("IMAGE", [1, 256, 512, 3], "UINT8")
    given.set_data_from_numpy(np.zeros((1, 256, 512, 3), np.uint8))
    try:
        print(json.dumps(client.infer(model, [given], client_timeout=timeout_s).as_numpy("MASK").shape))
    except InferenceServerException as error:
        print(json.dumps(str(error.status())))
"""


def ask_from_device(bed: Testbed, address: str, model: str, timeout_s: float = 20.0):
    argv = [sys.executable, "-c", CLIENT, address, model, str(timeout_s)]
    process = bed.run_device(argv, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    return json.loads(said)


def connect_ms(bed: Testbed, address: tuple[str, int]) -> float:
    """The quickest of five handshakes from the device."""
    took = []
    with inside(bed.device):
        for _ in range(5):
            start_s = time.monotonic()
            socket.create_connection(address, timeout=20).close()
            took.append(1000 * (time.monotonic() - start_s))
    return min(took)


def ours() -> list[str]:
    """Everything on this machine that belongs to a test bed of this process."""
    me = owner(os.getpid())
    shared = [file.name for file in Path("/dev/shm").glob(f"{PREFIX}{me}-*")]
    servers = [name for name in server_processes().values() if name.startswith(f"{PREFIX}{me}-")]
    return [name for name in existing() if f"-{me}-" in name] + shared + servers


def test_the_device_reaches_the_server_over_the_link(testbed):
    assert testbed.link is not None
    testbed.link.counters(reset=True)
    assert ask_from_device(testbed, testbed.server.grpc, "segformer-b0-uint8") == [1, 64, 128]
    counted = testbed.link.counters()
    assert counted["up"]["bytes"] > 256 * 512 * 3  # the image went that way
    assert 64 * 128 < counted["down"]["bytes"] < 100_000


def test_an_outage_ends_in_a_deadline_and_passes(testbed):
    before = testbed.link.profile
    testbed.link.shape(before.cut())
    try:
        said = ask_from_device(testbed, testbed.server.grpc, "segformer-b0-uint8", 0.5)
        assert said in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")
        assert testbed.server.ready()  # it is the link that is cut
    finally:
        testbed.link.shape(before)
    assert ask_from_device(testbed, testbed.server.grpc, "segformer-b0-uint8") == [1, 64, 128]


def test_the_link_may_get_longer_while_it_runs(testbed):
    before = testbed.link.profile
    testbed.link.shape(replace(before, rtt_ms=60.0, rtt_jitter_ms=0.0))
    try:
        assert connect_ms(testbed, testbed.echo()) >= 60.0
    finally:
        testbed.link.shape(before)


def test_the_echo_server_answers_the_device(testbed):
    with inside(testbed.device):
        connection = socket.create_connection(testbed.echo(), timeout=5)
    with connection:
        connection.sendall(b"twelve bytes")
        assert connection.recv(64) == b"twelve bytes"


def test_regions_lie_behind_the_edge_and_share_its_link(tmp_path):
    need(unavailable())
    before, link = set(ours()), Profile("short", 4.0, 0.0, 0.0, 1000.0)
    with Testbed(
        BedSettings(models=ONE, link=link, regions=2, region_rtt_ms=20.0, seed=1), tmp_path / "bed"
    ) as bed:
        assert list(bed.servers) == ["edge", "region1", "region2"]
        for node, least_ms in (("edge", 4.0), ("region1", 24.0), ("region2", 44.0)):
            assert connect_ms(bed, bed.echo(node)) >= least_ms
        bed.link.counters(reset=True)
        assert ask_from_device(bed, bed.servers["region2"].grpc, "one-uint8") == [1, 64, 128]
        assert bed.link.counters()["up"]["bytes"] > 256 * 512 * 3
        # Each server has an accelerator of its own, and its own faults.
        folders = {server.repository.faults for server in bed.servers.values()}
        assert len(folders) == 3
        assert len(set(ours()) - before) >= 4 + 3  # namespaces and servers
    assert set(ours()) == before


def test_a_region_is_reached_and_answers_under_the_links_congestion_control(tmp_path):
    need(unavailable())
    with Testbed(BedSettings(models=ONE, regions=1, seed=1), tmp_path / "bed") as bed:
        used = bed.link.congestion_control, bed.link.reply_congestion_control
        with inside(bed.namespace("region1")):
            listener = socket.create_server((bed.echo("region1")[0], 0))
        with listener, inside(bed.device), socket.create_connection(listener.getsockname()[:2]) as sender:
            answering, _ = listener.accept()
            with answering:
                assert (control_used(sender), control_used(answering)) == used


def test_a_recorded_link_plays_from_the_moment_that_all_is_ready(tmp_path):
    need(unavailable())
    steps = tuple(Profile("drive", rtt_ms, 0.0, 0.0, 100.0) for rtt_ms in (5.0, 80.0))
    drive = Schedule("drive", (0.0, 300.0), steps, 600.0)
    with Testbed(BedSettings(models=ONE, link=drive), tmp_path / "bed") as bed:
        assert bed.link.profile.rtt_ms == 5.0
        assert bed.link.counters()["schedule"] == {"step": 1, "steps": 2, "ended": False}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"echo_port": 8002},
            "echo server on 0.0.0.0:8002|Triton server",
        ),  # the server and the echo server want the same
        ({"ports": Ports(grpc=8000, http=8000)}, "Triton server"),
    ],
)
def test_a_part_that_does_not_start_takes_everything_down_again(tmp_path, settings, says):
    need(unavailable())
    before = set(ours())
    with pytest.raises(CarbonPilotError, match=says):
        Testbed(BedSettings(models=ONE, **settings), tmp_path / "bed").__enter__()
    assert set(ours()) == before


def test_a_link_that_does_not_start_takes_the_namespaces_down(tmp_path, monkeypatch):
    need(unavailable())
    before = set(ours())
    monkeypatch.setattr(
        Link, "_command", lambda self: [sys.executable, "-c", "raise SystemExit('no link today')"]
    )
    with pytest.raises(CarbonPilotError, match="no link today"):
        Testbed(BedSettings(models=ONE, link=PROFILES["lan"]), tmp_path / "bed").__enter__()
    assert set(ours()) == before


@pytest.mark.parametrize("wrong", [{"regions": -1}, {"regions": 10}, {"loopback": True, "regions": 1}])
def test_settings_that_cannot_be_built_are_refused(wrong):
    with pytest.raises(InputError, match="region"):
        BedSettings(**wrong)
