"""Tails on a real Triton server: loaded over the wire, asked, unloaded, and what is said where that cannot be."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from partition_models import masks, residual
from testbed_fixture import free_ports
from typer.testing import CliRunner

from carbonpilot.cli import app
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.real.executors.triton_checks import UnreachableServerError
from carbonpilot.real.segments.configuration import from_text
from carbonpilot.real.segments.manifest import read_manifest
from carbonpilot.real.segments.repository import Serving
from carbonpilot.real.segments.server import load_tails, unload_tails
from carbonpilot.real.segments.wire import TRITON_TYPES, WIRES, pack, unpack
from carbonpilot.real.segments.write import write_segments
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import TritonServer

pytest.importorskip("onnx", reason="needs the extra [models]")
tritonclient = pytest.importorskip("tritonclient.grpc", reason="needs the extra [device]")


@pytest.fixture(scope="module")
def server(triton_environment, tmp_path_factory):
    """A server that lets its models be controlled."""
    folder = tmp_path_factory.mktemp("controlled")
    repository = write_repository(folder, MODEL_SETS["fast"])
    log = folder / "server.log"
    with TritonServer(triton_environment, repository, log, ports=free_ports(), model_control=True) as running:
        yield running


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Segments of the model of masks by wire, with a free batch; and of the residual one, for single requests."""
    root = tmp_path_factory.mktemp("folders")
    model = masks(root / "masks.onnx", "n")
    for wire in WIRES:
        write_segments(model, ["features_relu", "scores"], wire, root / wire, max_disagreement=0.2)
    write_segments(residual(root / "fixed.onnx", 1), ["block_add"], "float32", root / "fixed")
    return root


@pytest.fixture
def client(server):
    client = tritonclient.InferenceServerClient(server.grpc)
    yield client
    client.close()


def ask(client, segment, activation):
    """Send one activation as a device does."""
    inputs = []
    for name, array in pack(activation, segment.wire):
        kind = TRITON_TYPES[segment.wire] if name == "ACTIVATION" else "FP32"
        tensor = tritonclient.InferInput(name, array.shape, kind)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return client.infer(segment.triton_model, inputs, client_timeout=10)


def head(folder, segment, feed):
    session = onnxruntime.InferenceSession(
        str(folder / segment.head.file), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)[0]


def whole(folder, name, feed):
    return onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"]).run(
        None, feed
    )[0]


def gone(client, name):
    """Unloading goes on after its answer."""
    until_s = time.monotonic() + 10
    while client.is_model_ready(name) and time.monotonic() < until_s:
        time.sleep(0.02)
    return not client.is_model_ready(name)


@pytest.mark.parametrize("wire", WIRES)
def test_device_and_server_together_answer_what_the_whole_model_does(folders, server, client, wire):
    folder = folders / wire
    lines = list(load_tails(folder, server.grpc))
    assert [line.split(":")[0] for line in lines] == ["masks-cut-005-tail", "masks-cut-006-tail"]
    image = np.random.default_rng(4).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    expected = whole(folders, "masks.onnx", {"IMAGE": image})
    for segment in read_manifest(folder).segments:
        activation = head(folder, segment, {"IMAGE": image})
        answer = ask(client, segment, activation).as_numpy("MASK")
        assert answer.dtype == np.uint8
        assert answer.shape == (1, 32, 32)
        assert (answer == expected).mean() >= (1.0 if wire == "float32" else 0.97)
    assert len(list(unload_tails(folder, server.grpc))) == 2
    assert gone(client, "masks-cut-005-tail")


@pytest.mark.parametrize(("folder", "model"), [("uint8", "masks.onnx"), ("fixed", "fixed.onnx")])
def test_requests_that_are_batched_get_each_its_own_answer(folders, server, client, folder, model):
    """Each with a scale of its own; the residual tail takes single requests only."""
    segment = read_manifest(folders / folder).segments[0]
    list(load_tails(folders / folder, server.grpc, [segment.cut]))
    rng = np.random.default_rng(6)
    if model == "masks.onnx":
        feeds = [{"IMAGE": rng.integers(0, 8 * n, (1, 32, 32, 3), dtype=np.uint8)} for n in range(1, 13)]
    else:
        feeds = [{"x": (n * rng.normal(size=(1, 4, 8, 8))).astype(np.float32)} for n in range(1, 13)]
    activations = [head(folders / folder, segment, feed) for feed in feeds]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda a: ask(client, segment, a), activations))
    output = "MASK" if model == "masks.onnx" else "y"
    tail = onnxruntime.InferenceSession(
        str(folders / folder / segment.tail.file), providers=["CPUExecutionProvider"]
    )
    for activation, answer in zip(activations, answers, strict=True):
        sent = dict(pack(activation, segment.wire))
        received = unpack(sent["ACTIVATION"], sent.get("SCALE"))
        (alone,) = tail.run(None, {segment.tensor: received})
        assert np.allclose(answer.as_numpy(output), alone, atol=1e-5)
    list(unload_tails(folders / folder, server.grpc))


def test_loading_again_is_harmless_and_brings_what_changed(folders, server, client, tmp_path):
    copy = shutil.copytree(folders / "float32", tmp_path / "copy")
    list(load_tails(copy, server.grpc, ["cut-005"]))
    config = copy / "triton" / "masks-cut-005-tail" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 3"))
    list(load_tails(copy, server.grpc, ["cut-005"]))
    told = client.get_model_config("masks-cut-005-tail").config
    assert told.max_batch_size == 3
    assert told.parameters["wire"].string_value == "float32"
    assert {n: list(t.dims) for t in told.output for n in [t.name]} == {"MASK": [32, 32]}
    list(unload_tails(copy, server.grpc))


def test_the_models_that_were_there_go_on_working(folders, server, client):
    list(load_tails(folders / "float32", server.grpc))
    list(unload_tails(folders / "float32", server.grpc))
    assert client.is_model_ready("segformer-b0-uint8")


def test_unloading_what_is_not_there_is_harmless(folders, server, client):
    assert gone(client, "fixed-cut-003-tail")
    (line,) = unload_tails(folders / "fixed", server.grpc)
    assert "was not loaded" in line


def test_the_commands_say_what_they_did(folders, server, client):
    call = [str(folders / "fixed"), "--server", server.grpc]
    loaded = CliRunner().invoke(app, ["segments", "load", *call])
    assert loaded.exit_code == 0, loaded.output
    assert "fixed-cut-003-tail: loaded at" in loaded.output
    assert client.is_model_ready("fixed-cut-003-tail")
    unloaded = CliRunner().invoke(app, ["segments", "unload", *call, "--cut", "cut-003"])
    assert "fixed-cut-003-tail: unloaded from" in unloaded.output
    assert gone(client, "fixed-cut-003-tail")


def test_a_server_without_model_control_is_told_with_the_mend(folders, triton_loopback):
    for act in (load_tails, unload_tails):
        with pytest.raises(
            InputError, match=r"--model-control-mode=explicit.*whole models go on working"
        ) as caught:
            list(act(folders / "float32", triton_loopback.grpc))
        assert caught.value.exit_code == 2
        assert str(folders / "float32" / "triton") in str(caught.value)


def test_a_server_without_model_control_serves_the_repository_it_is_started_with(
    folders, triton_environment, tmp_path
):
    """The other mend of the message: the folder as a model repository."""
    from carbonpilot.real.testbed.repository.write import Repository

    repository = Repository(folders / "uint8" / "triton", MODEL_SETS["fast"], tmp_path / "faults")
    with TritonServer(triton_environment, repository, tmp_path / "log", ports=free_ports()) as running:
        client = tritonclient.InferenceServerClient(running.grpc)
        assert client.is_model_ready("masks-cut-006-tail")
        client.close()


def test_a_tail_that_cannot_be_loaded_is_told(folders, server, tmp_path):
    copy = shutil.copytree(folders / "fixed", tmp_path / "copy")
    code = copy / "triton" / "fixed-cut-003-tail" / "1" / "model.py"
    code.write_text("raise ValueError('no such thing')\n")
    with pytest.raises(
        CarbonPilotError, match=r"cannot load or unload fixed-cut-003-tail: .*no such thing"
    ) as caught:
        list(load_tails(copy, server.grpc))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("address", ["10.0.0.1", "http://10.0.0.1:8001", ":8001", "host:grpc"])
def test_addresses_that_are_none(folders, address):
    with pytest.raises(InputError, match="expected HOST:PORT"):
        list(load_tails(folders / "fixed", address))


def test_a_port_where_nobody_answers(folders):
    with pytest.raises(UnreachableServerError, match=r"No Triton server answers at 127\.0\.0\.1:9 "):
        list(load_tails(folders / "fixed", "127.0.0.1:9"))


def test_the_configuration_is_the_one_that_was_written(folders, tmp_path):
    write_segments(
        folders / "masks.onnx", ["scores"], "float16", tmp_path / "out", max_disagreement=0.2,
        serving=Serving(threads=2, max_batch=5, queue_delay_ms=1.5),
    )  # fmt: skip
    text = (tmp_path / "out" / "triton" / "masks-cut-006-tail" / "config.pbtxt").read_text()
    config = from_text(text)
    assert config["max_batch_size"] == 5
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": "1500"}
    assert config["parameters"]["threads"] == {"string_value": "2"}
    assert config["input"] == [{"name": "ACTIVATION", "data_type": "TYPE_FP16", "dims": ["5", "32", "32"]}]
    assert "priority" not in text  # any queue policy makes the server's batcher wait for half a second
    assert "default_queue_policy" not in text
