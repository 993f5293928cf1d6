"""Small networks as ONNX files, built by hand, so that what is expected of them is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE, CLASSES = 4, 8, 5
_RNG = np.random.default_rng(7)


def weights(*shape: int) -> np.ndarray:
    """Values of a size that keeps activations near one."""
    return (_RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


class Network:
    """Operations one after the other; `save` writes the file."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.values: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.values.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], outputs: str | list[str], **attributes) -> str:
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=f"/{outputs[0]}/{kind}", **attributes))
        return outputs[0]

    def conv(self, source: str, name: str, channels: int = CHANNELS, group: int = 1) -> str:
        weight = self.constant(f"{name}.weight", weights(channels, CHANNELS // group, 3, 3))
        return self.add("Conv", [source, weight], name, pads=[1, 1, 1, 1], kernel_shape=[3, 3], group=group)

    def model(self, inputs, outputs, opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(*i) for i in inputs],
            [helper.make_tensor_value_info(*o) for o in outputs],
            self.values,
        )
        domains = {node.domain for node in self.nodes} - {""}
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
        return helper.make_model(graph, opset_imports=imports, ir_version=9)

    def save(self, path: Path, inputs, outputs, opset: int = 17) -> Path:
        onnx.save(self.model(inputs, outputs, opset), str(path))
        return path


def residual(path: Path, batch: int | str = 1) -> Path:
    """conv, relu, a residual block, global pool, classifier: image x (n, 4, 8, 8) -> scores y (n, 5).

    Cuts: stem, stem_relu, block_add, pool, flat. A shared weight goes through an Identity, as exporters write it.
    """
    net = Network()
    net.conv("x", "stem")
    net.add("Relu", ["stem"], "stem_relu")
    shared = net.constant("shared", weights(CHANNELS, CHANNELS, 3, 3))
    net.add("Identity", [shared], "shared_again")
    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    net.add("Conv", ["stem_relu", "shared"], "block_a", **same)
    net.add("Conv", ["block_a", "shared_again"], "block_b", **same)
    net.add("Add", ["block_b", "stem_relu"], "block_add")
    net.add("GlobalAveragePool", ["block_add"], "pool")
    net.add("Flatten", ["pool"], "flat", axis=1)
    net.add("Gemm", ["flat", net.constant("w", weights(CHANNELS, CLASSES))], "y")
    float32 = TensorProto.FLOAT
    return net.save(path, [("x", float32, [batch, CHANNELS, SIDE, SIDE])], [("y", float32, [batch, CLASSES])])


RESIDUAL_CUTS = ["stem", "stem_relu", "block_add", "pool", "flat"]


def masks(path: Path, batch: int | str = 1, side: int = 32) -> Path:
    """RGB bytes IMAGE (n, h, w, 3) -> classes MASK (n, h, w): cast, transpose, conv, conv, argmax, cast."""
    net = Network()
    net.add("Cast", ["IMAGE"], "pixels", to=TensorProto.FLOAT)
    net.add("Mul", ["pixels", net.constant("by", np.float32(1 / 64.0))], "scaled")
    net.add("Transpose", ["scaled"], "planes", perm=[0, 3, 1, 2])
    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    net.add("Conv", ["planes", net.constant("a", weights(CHANNELS, 3, 3, 3))], "features", **same)
    net.add("Relu", ["features"], "features_relu")
    net.add("Conv", ["features_relu", net.constant("b", weights(CLASSES, CHANNELS, 3, 3))], "scores", **same)
    net.add("ArgMax", ["scores"], "classes", axis=1, keepdims=0)
    net.add("Cast", ["classes"], "MASK", to=TensorProto.UINT8)
    return net.save(
        path,
        [("IMAGE", TensorProto.UINT8, [batch, side, side, 3])],
        [("MASK", TensorProto.UINT8, [batch, side, side])],
    )


MASKS_CUTS = ["pixels", "scaled", "planes", "features", "features_relu", "scores"]


def tangled(path: Path) -> Path:
    """An input that the last operation reads again: no cut."""
    net = Network()
    net.conv("x", "a")
    net.add("Relu", ["a"], "b")
    net.add("Add", ["b", "x"], "y")
    shape = [1, CHANNELS, SIDE, SIDE]
    return net.save(path, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)])
