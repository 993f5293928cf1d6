"""The frozen network as an ONNX graph, built node by node, so that nothing depends on torch's exporter."""

from __future__ import annotations

import warnings

from ..envs.errors import MissingExtraError
from .bundle import Arrays

# Old enough for onnxruntime 1.10 of 2021, new enough for everything used here.
OPSET, IR_VERSION = 13, 8
INPUT = "observation"


def onnx_graph(arrays: Arrays, activation: str, output: str) -> bytes:
    """Build the ONNX file of a network.

    Args:
        arrays: normaliser and weights as in ``policy.npz``.
        activation: "relu" or "tanh", between the layers.
        output: name of the output, "logits" or "q_values".

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
    count = sum(name.startswith("weight_") for name in arrays)
    nodes = [
        helper.make_node("Sub", [INPUT, "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["layer_0_in"]),
    ]
    for i in range(count):
        last = i == count - 1
        result = output if last else f"layer_{i}_out"
        inputs = [f"layer_{i}_in", f"weight_{i}", f"bias_{i}"]
        nodes.append(helper.make_node("Gemm", inputs, [result]))
        if not last:
            nodes.append(helper.make_node(activation.capitalize(), [result], [f"layer_{i + 1}_in"]))
    sizes = (len(arrays["mean"]), len(arrays[f"bias_{count - 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in zip((INPUT, output), sizes, strict=True)
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "carbonpilot", ends[:1], ends[1:], constants)
    model = helper.make_model(
        graph,
        producer_name="carbonpilot",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(model, full_check=True)
    return model.SerializeToString()
