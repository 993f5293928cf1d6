"""A small segmentation model with a card, its segments, and a real Triton server that serves it whole and its tails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from partition_models import Network
from testbed_fixture import free_ports

from carbonpilot.envs.model_card import MASK_SCALE, METADATA_KEY, ModelCard
from carbonpilot.real.segments.manifest import SegmentManifest, read_manifest
from carbonpilot.real.segments.write import write_segments
from carbonpilot.real.site_file import FrameSize, LocalModel, file_sha256
from carbonpilot.real.testbed.repository.settings import ModelSet, ServedModel
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import TritonServer

SIZE = FrameSize(height=64, width=128)
CLASSES = 19
CHANNELS = 8
CUT = "features_relu"  # tensor; its cut has a number


def small_model(path: Path, seed: int = 3, classes: int = CLASSES) -> Path:
    """IMAGE -> a quarter of each side with 8 channels -> classes -> MASK; with a card."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    net = Network()
    net.add("Cast", ["IMAGE"], "pixels", to=TensorProto.FLOAT)
    net.add("Mul", ["pixels", net.constant("by", np.float32(1 / 64.0))], "scaled")
    net.add("Transpose", ["scaled"], "planes", perm=[0, 3, 1, 2])
    first = net.constant("first", weights(CHANNELS, 3, MASK_SCALE, MASK_SCALE))
    net.add("Conv", ["planes", first], "features", strides=[4, 4], kernel_shape=[4, 4])
    net.add("Relu", ["features"], "features_relu")
    second = net.constant("second", weights(classes, CHANNELS, 3, 3))
    net.add("Conv", ["features_relu", second], "scores", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    net.add("ArgMax", ["scores"], "classes", axis=1, keepdims=0)
    net.add("Cast", ["classes"], "MASK", to=TensorProto.UINT8)
    mask = [1, SIZE.height // MASK_SCALE, SIZE.width // MASK_SCALE]
    model = net.model(
        [("IMAGE", TensorProto.UINT8, [1, SIZE.height, SIZE.width, 3])], [("MASK", TensorProto.UINT8, mask)]
    )
    card = ModelCard.model_validate(
        {
            "schema": "carbonpilot/model/1",
            "model": "small",
            "classes": [f"class {i}" for i in range(classes)],
            "frame_height": SIZE.height,
            "frame_width": SIZE.width,
            "dynamic_batch": False,
            "precision": "fp32",
            "weights": "drawn",
            "weights_sha256": "0" * 64,
            "miou_pct": None,
            "miou_source": None,
            "exporter": "a test",
            "carbonpilot_version": "0",
        }
    )
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, str(path))
    return path


@dataclass(frozen=True)
class SplitServer:
    """A real server with a whole model and the tails of it.

    Attributes:
        server: serves the whole model, as `whole-onnx-uint8`, and the tails, as `TAIL-WIRE`.
        folder: of the model (`model.onnx`) and of its segments, one folder for each wire.
        size: of its frames.
        manifests: by wire.
    """

    server: TritonServer
    folder: Path
    size: FrameSize
    manifests: dict[str, SegmentManifest]

    @property
    def local(self) -> LocalModel:
        """The whole model on the device."""
        return LocalModel(
            file="model.onnx",
            sha256=file_sha256(self.folder / "model.onnx"),
            providers=["cpu"],
            intra_op_threads=1,
        )


@contextmanager
def running(
    environment,
    folder: Path,
    model: Callable[[Path], Path] = small_model,
    size: FrameSize = SIZE,
    cut: str = CUT,
    wires: tuple[str, ...] = ("float32", "float16", "uint8"),
) -> Iterator[SplitServer]:
    """A `SplitServer` for the length of a with block."""
    file = model(folder / "model.onnx")
    whole = ServedModel.model_validate(
        {"name": "whole-onnx", "kind": "onnx", "onnx": str(file), "forms": ["uint8"], "frame_height": size.height,
         "frame_width": size.width}
    )  # fmt: skip
    repository = write_repository(folder / "server", ModelSet(models=[whole]))
    manifests = {}
    for wire in wires:
        out = folder / wire
        write_segments(file, [cut], wire, out, max_disagreement=0.2)
        manifest = manifests[wire] = read_manifest(out)
        tail = manifest.segments[0].triton_model
        served = repository.folder / f"{tail}-{wire}"
        (out / "triton" / tail).rename(served)
        config = served / "config.pbtxt"
        config.write_text(config.read_text().replace(f'"{tail}"', f'"{served.name}"'))
    with TritonServer(environment, repository, folder / "server.log", ports=free_ports()) as server:
        yield SplitServer(server, folder, size, manifests)
