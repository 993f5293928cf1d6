"""Fixtures with a real Triton server; `conftest.py` offers them to every test. Skipped where there is none."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carbonpilot.real.testbed.repository.settings import model_set
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import Ports, TritonServer
from carbonpilot.real.testbed.server_environment import find_environment
from carbonpilot.real.testbed.server_environment import unavailable as triton_unavailable


def free_ports() -> Ports:
    """Three ports of loopback that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = Ports(*(s.getsockname()[1] for s in sockets))
    for s in sockets:
        s.close()
    return ports


def need_triton() -> None:
    """Skip where there is no Triton server, except where one is a must (CARBONPILOT_NEED_TRITON=1, set by CI)."""
    reason = triton_unavailable()
    if reason is not None:
        if os.environ.get("CARBONPILOT_NEED_TRITON"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def triton_loopback(tmp_path_factory: pytest.TempPathFactory):
    """A real Triton server on loopback with the quick stand-ins; a `TritonServer`.

    Shared by all tests of a process: one that breaks it must mend it (`restart`, `thaw`, `repository.fault()`).
    """
    need_triton()
    folder: Path = tmp_path_factory.mktemp("triton")
    repository = write_repository(folder, model_set("fast"))
    with TritonServer(find_environment(), repository, folder / "server.log", ports=free_ports()) as server:
        yield server
