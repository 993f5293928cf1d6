"""The Triton server as a process: its faults as clients see them, and what it leaves behind."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from testbed_fixture import free_ports
from tritonclient.utils import InferenceServerException

from carbonpilot.envs.errors import CarbonPilotError, InputError, ScenarioError
from carbonpilot.real.probes.failure import ProbeFailure
from carbonpilot.real.probes.triton_http import HttpPage
from carbonpilot.real.testbed import server as server_module
from carbonpilot.real.testbed import server_environment
from carbonpilot.real.testbed.namespaces import owner
from carbonpilot.real.testbed.repository.settings import MODEL_SETS, ModelSet, ServedModel, model_set
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import TritonServer
from carbonpilot.real.testbed.server_environment import find_environment
from carbonpilot.real.testbed.server_leftovers import PREFIX, remove_server_leftovers, server_processes

ONE = ModelSet(models=[ServedModel(name="one", forms=["uint8"], service_ms=2.0)])


def answer(server: TritonServer, timeout_s: float | None = None) -> str:
    """What a client with a fresh connection gets for one image."""
    with triton.InferenceServerClient(server.grpc) as client:
        given = triton.InferInput("IMAGE", [1, 256, 512, 3], "UINT8")
        given.set_data_from_numpy(np.zeros((1, 256, 512, 3), np.uint8))
        try:
            mask = client.infer("segformer-b0-uint8", [given], client_timeout=timeout_s).as_numpy("MASK")
        except InferenceServerException as error:
            return str(error.status())
    return str(mask.shape)


def regions(server: TritonServer) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{server._region}*"))


def test_a_killed_server_is_gone_at_once_and_comes_back_at_its_address(triton_loopback):
    server, before = triton_loopback, triton_loopback.pid
    models = _children(before)
    server.kill()
    try:
        assert not server.running
        assert not server.ready()
        assert answer(server, 2.0) == "StatusCode.UNAVAILABLE"
        assert regions(server) == []
        assert [pid for pid in models if os.path.exists(f"/proc/{pid}/exe")] == []
    finally:
        server.restart()
    assert server.pid != before
    assert server.ready()
    assert answer(server) == "(1, 64, 128)"


def test_a_frozen_server_takes_connections_and_answers_nobody_until_it_thaws(triton_loopback):
    server = triton_loopback
    assert answer(server) == "(1, 64, 128)"
    server.freeze()
    try:
        with socket.create_connection(("127.0.0.1", server.ports.grpc), timeout=2.0):
            pass  # the kernel still takes connections
        assert server.running
        assert not server.ready(timeout_s=0.2)
        assert answer(server, 0.3) in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")
        page = HttpPage(server.metrics, timeout_s=0.2)
        with pytest.raises(ProbeFailure):
            page.get()
        page.close()
    finally:
        server.thaw()
    assert answer(server) == "(1, 64, 128)"


def test_faults_do_no_harm_twice_or_to_a_server_that_does_not_run(triton_environment, tmp_path):
    server = TritonServer(triton_environment, write_repository(tmp_path, ONE), tmp_path / "log")
    for act in (server.stop, server.kill, server.freeze, server.thaw, server.stop):
        act()
    assert server.pid is None


def test_a_server_ends_in_order_and_leaves_nothing(triton_environment, tmp_path):
    repository = write_repository(tmp_path, ONE)
    with TritonServer(triton_environment, repository, tmp_path / "log", ports=free_ports()) as server:
        pid, models = server.pid, _children(server.pid)
        assert models
        assert regions(server)
        with pytest.raises(InputError, match="runs already"):
            server.start()
    assert "Timeout" in (tmp_path / "log").read_text()  # its own way out, not a kill
    assert regions(server) == []
    assert [p for p in (pid, *models) if os.path.exists(f"/proc/{p}/exe")] == []


def test_a_taken_port_is_named(triton_environment, tmp_path):
    ports = free_ports()
    server = TritonServer(triton_environment, write_repository(tmp_path, ONE), tmp_path / "log", ports=ports)
    says = rf"Port {ports.metrics} \(metrics\).*testbed status"
    with socket.create_server(("127.0.0.1", ports.metrics)), pytest.raises(InputError, match=says):
        server.start()
    assert not server.running


def test_a_port_taken_while_it_starts_is_found_before_it_counts_as_ready(
    triton_environment, tmp_path, monkeypatch
):
    ports = free_ports()
    repository = write_repository(tmp_path, ONE)
    server = TritonServer(triton_environment, repository, tmp_path / "log", ports=ports)
    monkeypatch.setattr(server, "_check_ports", lambda: None)  # the other comes a moment after the look
    monkeypatch.setattr(server_module, "_LOOK_S", 0.0005)  # sees each moment in which it seems ready
    with (
        socket.create_server(("127.0.0.1", ports.metrics)),
        pytest.raises(CarbonPilotError, match="did not start"),
    ):
        server.start()
    assert not server.running
    assert regions(server) == []


def test_a_model_that_does_not_load_tells_why_and_the_server_ends(triton_environment, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    models = ModelSet(models=[ServedModel(name="real", kind="onnx", onnx=str(broken), forms=["uint8"])])
    server = TritonServer(
        triton_environment, write_repository(tmp_path, models), tmp_path / "log", ports=free_ports()
    )
    with pytest.raises(CarbonPilotError, match=r"did not start. It said: [^$]*broken.onnx") as caught:
        server.start()
    assert str(tmp_path / "log") in str(caught.value)
    assert not server.running
    assert regions(server) == []


def test_what_a_killed_run_left_is_found_by_its_name_and_removed(triton_environment, tmp_path):
    ports = tuple(vars(free_ports()).values())
    code = f"""
import os, signal
from pathlib import Path
import carbonpilot.real.testbed.server as s
from carbonpilot.real.testbed.repository.settings import ModelSet
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server_environment import find_environment
folder = Path({str(tmp_path)!r})
models = ModelSet.model_validate_json({ONE.model_dump_json()!r})
repository = write_repository(folder, models)
server = s.TritonServer(find_environment(), repository, folder / "log", ports=s.Ports(*{ports}))
server.start()
print(server.pid, server._region, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid, name = int(done.stdout.split()[0]), done.stdout.split()[1]
    stranger = Path(f"/dev/shm/{PREFIX}{owner(os.getpid())}-99-ours")
    stranger.write_text("of a run that lives")
    try:
        remove_server_leftovers()  # or another test's server did it, at its start
        assert stranger.exists()
    finally:
        stranger.unlink()
    until_s = time.monotonic() + 5.0
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < until_s:
        time.sleep(0.02)
    remove_server_leftovers()
    assert pid not in server_processes()
    assert list(Path("/dev/shm").glob(f"{name}*")) == []


def test_without_an_environment_the_mend_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(server_environment.VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"nothing is not a virtual environment. Run `make triton`"):
        find_environment()
    assert "make triton" in (server_environment.unavailable() or "")


def test_an_environment_without_a_server_says_so(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(InputError, match=r"holds no Triton server .*make triton"):
        find_environment(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [{name: a, service_ms: 0}]", r"models\.0\.service_ms"),
        ("models: [{name: a}]", "a stand-in needs service_ms"),
        ("models: [{name: a, kind: onnx}]", "needs the path of the graph"),
        ("models: [{name: a, service_ms: 9, service_p95_ms: 8}]", "must not be below service_ms"),
        ("models: [{name: a, service_ms: 9, frame_height: 250}]", r"frame_height"),
        ("models: [{name: a, service_ms: 9}, {name: a, service_ms: 9}]", "the same name"),
        ("models: [{name: a, servce_ms: 9}]", "Did you mean 'service_ms'"),
        ("models: []", r"models"),
    ],
)
def test_a_wrong_model_set_names_path_and_rule(tmp_path, text, says):
    file = tmp_path / "set.yaml"
    file.write_text(text + "\n")
    with pytest.raises(ScenarioError, match=says):
        model_set(str(file))


def test_a_model_set_is_a_name_or_a_file(tmp_path):
    file = tmp_path / "set.yaml"
    file.write_text(
        "models: [{name: a, kind: onnx, onnx: graph.onnx, forms: [jpeg]}]\nshared_accelerator: false\n"
    )
    (model,) = model_set(str(file)).models
    assert model.onnx == str(tmp_path / "graph.onnx")  # beside the file
    assert model_set("fast") is MODEL_SETS["fast"]
    with pytest.raises(InputError, match="Did you mean 'fast'"):
        model_set("fas")
    with pytest.raises(InputError, match=r"graph.onnx. Make it with `carbonpilot models export`"):
        write_repository(tmp_path / "repository", model_set(str(file)))


def _children(pid: int | None) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_health_answers_over_http(triton_loopback):
    connection = http.client.HTTPConnection("127.0.0.1", triton_loopback.ports.http, timeout=2)
    connection.request("GET", "/v2/models/segformer-b0-jpeg/ready")
    assert connection.getresponse().status == 200
    connection.close()
