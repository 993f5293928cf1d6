"""A real graph on the test bed's Triton server, in onnxruntime: here one that takes the red of every fourth pixel."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from testbed_fixture import free_ports
from tritonclient.utils import InferenceServerException

from carbonpilot.envs.errors import CarbonPilotError
from carbonpilot.real.testbed.repository.settings import ModelSet, ServedModel
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import TritonServer

SIZE = (64, 96)


def graph(path, batch: int | str, size: tuple[int, int] = SIZE):
    """IMAGE (batch, H, W, 3) uint8 -> LOGITS float and MASK (batch, H/4, W/4) uint8, as `models export` names them."""
    constants = {"starts": [0, 0], "ends": list(size), "axes": [1, 2], "steps": [4, 4], "red": 0}
    nodes = [
        helper.make_node("Slice", ["IMAGE", "starts", "ends", "axes", "steps"], ["small"]),
        helper.make_node("Gather", ["small", "red"], ["MASK"], axis=3),
        helper.make_node("Cast", ["MASK"], ["LOGITS"], to=TensorProto.FLOAT),
    ]
    mask = [batch, size[0] // 4, size[1] // 4]
    made = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, [batch, *size, 3])],
        [
            helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, mask),
            helper.make_tensor_value_info("MASK", TensorProto.UINT8, mask),
        ],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return str(path)


def served(name: str, file: str) -> ServedModel:
    return ServedModel(name=name, kind="onnx", onnx=file, frame_height=SIZE[0], frame_width=SIZE[1])


@pytest.fixture(scope="module")
def client(triton_environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    models = ModelSet(
        models=[
            served("single", graph(folder / "single.onnx", 1)),
            served("batch", graph(folder / "batch.onnx", "N")),
        ]
    )
    repository = write_repository(folder, models)
    with (
        TritonServer(triton_environment, repository, folder / "log", ports=free_ports()) as server,
        triton.InferenceServerClient(server.grpc) as client,
    ):
        yield client


def ask(client, model: str, images: np.ndarray) -> np.ndarray:
    """The masks of a request; JPEG files where the array holds bytes."""
    kind = "UINT8" if images.dtype == np.uint8 else "BYTES"
    given = triton.InferInput("IMAGE", list(images.shape), kind).set_data_from_numpy(images)
    return client.infer(model, [given]).as_numpy("MASK")


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("model", ["single", "batch"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_graph_sees_the_pixels(client, model, count):
    images = pictures(count)
    np.testing.assert_array_equal(ask(client, f"{model}-uint8", images), images[:, ::4, ::4, 0])
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        files.append([file.getvalue()])
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for (file,) in files])
    np.testing.assert_array_equal(
        ask(client, f"{model}-jpeg", np.array(files, dtype=object)), decoded[:, ::4, ::4, 0]
    )


def test_what_is_no_image_is_refused(client):
    with pytest.raises(InferenceServerException, match=r"IMAGE: not a JPEG file \(4 bytes\)"):
        ask(client, "batch-jpeg", np.array([[b"oops"]], dtype=object))


def test_a_graph_of_another_size_is_refused_at_the_start(triton_environment, tmp_path):
    models = ModelSet(models=[served("other", graph(tmp_path / "other.onnx", 1, (128, 96)))])
    server = TritonServer(
        triton_environment, write_repository(tmp_path, models), tmp_path / "log", ports=free_ports()
    )
    with pytest.raises(CarbonPilotError, match=r"expected uint8 images \[64, 96, 3\]"):
        server.start()
    assert not server.running
