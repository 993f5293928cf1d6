"""The frozen policy as an ONNX graph, built node by node, so that nothing depends on torch's exporter."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..envs.errors import MissingExtraError
from .bundle_arrays import RISK, Arrays
from .onnx_price import add_price

# Old enough for onnxruntime 1.10 of 2021, new enough for everything used here.
OPSET, IR_VERSION = 13, 8
INPUT = "observation"


class Graph:
    """Nodes and constants of a graph in the making; every node has one output, whose name is returned."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        """An empty graph; the arguments are onnx's modules of these names."""
        self._helper, self._numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output: ``to``, or one that is made up."""
        output = to or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """Add a constant and return its name; one of that name is added once."""
        if name not in {c.name for c in self.constants}:
            self.constants.append(self._numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def layers(
        self, values: str, arrays: Arrays, prefix: str, activation: str, skip: str = "", to: str = ""
    ) -> str:
        """Add an MLP over ``values``; the last layer also reads ``skip``, if that is given."""
        count = sum(name.startswith(f"{prefix}weight_") for name in arrays)
        for i in range(count):
            last = i == count - 1
            if last and skip:
                values = self.add("Concat", values, skip, axis=1)
            names = [f"{prefix}{kind}_{i}" for kind in ("weight", "bias")]
            weights = [self.constant(name, arrays[name]) for name in names]
            values = self.add("Gemm", values, *weights, to=to if last else "")
            values = values if last else self.add(activation, values)
        return values


def onnx_graph(
    arrays: Arrays, activation: str | None, output: str, risk: dict[str, Any] | None = None,
    features: list[dict[str, Any]] | None = None,
) -> bytes:  # fmt: skip
    """Build the ONNX file of a policy.

    Args:
        arrays: normaliser and weights as in ``policy.npz``.
        activation: "relu" or "tanh", between the layers of the network; None where there is no network.
        output: name of the output, "logits", "q_values" or "preferences".
        risk: what the card says of the risk head and the price; None where there is none.
        features: rows of the observation table, which the price needs.

    Returns:
        Content of the file: input ``observation`` (batch, F), output (batch, P), both float32, batch free.

    Raises:
        MissingExtraError: if onnx is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # raised inside protobuf and ml_dtypes
            from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise MissingExtraError("The ONNX file of a bundle", "train") from None
    graph = Graph(helper, numpy_helper)
    mean, std = (graph.constant(name, arrays[name]) for name in ("mean", "std"))
    normalised = graph.add("Div", graph.add("Sub", INPUT, mean), std)
    kind = "" if activation is None else activation.capitalize()
    if risk is None:
        graph.layers(normalised, arrays, "", kind, to=output)
    else:
        logits = graph.layers(normalised, arrays, RISK, "Relu")
        shown, scores = add_price(graph, INPUT, logits, risk["price"], features or [])
        if activation is None:
            graph.add("Neg", scores, to=output)
        else:
            inputs = graph.add("Concat", normalised, shown, scores, axis=1)
            graph.layers(inputs, arrays, "", kind, skip=scores, to=output)
    own = "" if activation is not None else RISK
    actions = len(arrays[max(name for name in arrays if name.startswith(f"{own}bias_"))])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in ((INPUT, len(arrays["mean"])), (output, actions))
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "carbonpilot", ends[:1], ends[1:], graph.constants),
        producer_name="carbonpilot",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString()
