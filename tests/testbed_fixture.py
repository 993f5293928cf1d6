"""Fixtures with a real Triton server; `conftest.py` offers them to every test. Skipped where there is none."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carbonpilot.real.testbed.bed import BedSettings, Testbed
from carbonpilot.real.testbed.bed import unavailable as testbed_unavailable
from carbonpilot.real.testbed.profiles import PROFILES
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import Ports, TritonServer
from carbonpilot.real.testbed.server_environment import TritonEnvironment, find_environment
from carbonpilot.real.testbed.server_environment import unavailable as triton_unavailable


def free_ports() -> Ports:
    """Three ports of loopback that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = Ports(*(s.getsockname()[1] for s in sockets))
    for s in sockets:
        s.close()
    return ports


def control_used(connection: socket.socket) -> str:
    """Name of the congestion control that a connection uses for what it sends."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def need(reason: str | None) -> None:
    """Skip for a reason, except where a test bed is a must (CARBONPILOT_NEED_TESTBED=1, set by CI)."""
    if reason is not None:
        (pytest.fail if os.environ.get("CARBONPILOT_NEED_TESTBED") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def triton_environment() -> TritonEnvironment:
    """Where the Triton server is."""
    need(triton_unavailable())
    return find_environment()


@pytest.fixture(scope="session")
def triton_loopback(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory):
    """A real Triton server on loopback with the quick stand-ins; a `TritonServer`.

    Shared by all tests of a process: one that breaks it must mend it (`restart`, `thaw`, `repository.fault()`).
    """
    folder: Path = tmp_path_factory.mktemp("triton")
    repository = write_repository(folder, MODEL_SETS["fast"])
    with TritonServer(triton_environment, repository, folder / "server.log", ports=free_ports()) as server:
        yield server


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory):
    """A device, a LAN and a real Triton server with the quick stand-ins, in namespaces; a `Testbed`.

    Shared as `triton_loopback` is: a test that breaks server or link must mend it.
    """
    need(testbed_unavailable())
    settings = BedSettings(models=MODEL_SETS["fast"], link=PROFILES["lan"], seed=1)
    with Testbed(settings, tmp_path_factory.mktemp("testbed")) as bed:
        yield bed
