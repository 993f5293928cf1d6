"""Costs of operations: by hand for known layers, and the sum of a measurement."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from partition_models import CHANNELS, CLASSES, SIDE, Network, residual, weights

from carbonpilot.agents.partition.costs import eq5_costs, mac_costs
from carbonpilot.agents.partition.cuts import cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.agents.partition.measure import _medians, _numbered, measured_costs

FLOAT = TensorProto.FLOAT


def by_name(graph, costs):
    return dict(zip((o.outputs[0] for o in graph.operations), costs.values, strict=True))


def test_layers_of_the_residual_network(tmp_path):
    graph = read_graph(residual(tmp_path / "m.onnx"))
    kernel = 3 * 3 * CHANNELS * CHANNELS
    eq5, macs = by_name(graph, eq5_costs(graph)), by_name(graph, mac_costs(graph))
    assert eq5["stem"] == eq5["block_a"] == kernel
    assert eq5["block_b"] == kernel  # its weight comes through an Identity
    assert eq5["y"] == CHANNELS * CLASSES
    assert eq5["stem_relu"] == eq5["block_add"] == eq5["pool"] == eq5["flat"] == 0
    assert macs["stem"] == macs["block_b"] == kernel * SIDE * SIDE
    assert macs["y"] == CHANNELS * CLASSES
    assert macs["stem_relu"] == 0


def test_what_equation_5_leaves_out(tmp_path):
    """A depthwise convolution at half the scale: C times too much by its groups, and no word of the scale."""
    net = Network()
    net.conv("x", "dense")
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    net.add("Conv", ["dense", net.constant("w", weights(CHANNELS, 1, 3, 3))], "deep", group=CHANNELS, **same)
    net.add(
        "Conv",
        ["deep", net.constant("v", weights(CHANNELS, CHANNELS, 3, 3))],
        "small",
        strides=[2, 2],
        **same,
    )
    net.add(
        "BatchNormalization",
        ["small", *(net.constant(n, np.ones(CHANNELS, np.float32)) for n in "abcd")],
        "y",
    )
    shape = [1, CHANNELS, SIDE, SIDE]
    path = net.save(
        tmp_path / "m.onnx", [("x", FLOAT, shape)], [("y", FLOAT, [1, CHANNELS, SIDE // 2, SIDE // 2])]
    )
    graph = read_graph(path)
    eq5, macs = by_name(graph, eq5_costs(graph)), by_name(graph, mac_costs(graph))
    assert eq5["deep"] == eq5["dense"] == 9 * CHANNELS * CHANNELS
    assert macs["deep"] * CHANNELS == macs["dense"]
    assert eq5["small"] == eq5["dense"]
    assert macs["small"] * 4 == macs["dense"]
    assert eq5["y"] == 4 * CHANNELS  # parameters of a normalisation


def test_products_of_two_activations_are_macs_too(tmp_path):
    net = Network()
    net.add("Transpose", ["x"], "t", perm=[0, 2, 1])
    net.add("MatMul", ["x", "t"], "scores")
    net.add("MatMul", ["scores", "x"], "mixed")
    net.add("MatMul", ["mixed", net.constant("w", weights(6, 7))], "y")
    graph = read_graph(net.save(tmp_path / "m.onnx", [("x", FLOAT, [1, 5, 6])], [("y", FLOAT, [1, 5, 7])]))
    macs = by_name(graph, mac_costs(graph))
    assert macs == {"t": 0, "scores": 5 * 5 * 6, "mixed": 5 * 6 * 5, "y": 5 * 7 * 6}
    assert by_name(graph, eq5_costs(graph))["y"] == 6 * 7


def test_blocks_add_up_to_the_whole(tmp_path):
    graph = read_graph(residual(tmp_path / "m.onnx"))
    for costs in (eq5_costs(graph), mac_costs(graph)):
        last = [*(cut.after for cut in cut_points(graph)), len(graph.operations) - 1]
        blocks = costs.of_blocks(last)
        assert len(blocks) == len(last)
        assert blocks.sum() == costs.total
        assert blocks[0] == costs.values[: last[0] + 1].sum()


@pytest.mark.parametrize("batch", [1, "n"])
def test_measured_times_are_of_every_operation_and_add_up_to_the_whole(tmp_path, batch):
    """A convolution of far more work than the rest takes most of the time."""
    net = Network()
    net.add("Relu", ["x"], "a")
    heavy = np.ones((64, CHANNELS, 7, 7), np.float32)
    net.add("Conv", ["a", net.constant("w", heavy)], "b", kernel_shape=[7, 7])
    net.add("GlobalAveragePool", ["b"], "c")
    net.add("Flatten", ["c"], "y")
    shape = [batch, CHANNELS, 64, 64]
    graph = read_graph(net.save(tmp_path / "m.onnx", [("x", FLOAT, shape)], [("y", FLOAT, [batch, 64])]))
    costs = measured_costs(graph, runs=5)
    assert costs.values.shape == (4,)
    assert (costs.values >= 0).all()
    assert costs.values[1] > 0.5 * costs.total
    assert f"{costs.total:.2f} ms" in costs.note


def event(name: str, kind: str, microseconds: float) -> dict:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": kind}}


def test_a_profile_is_led_back_to_the_operations_of_the_file(tmp_path):
    """Names as onnxruntime 1.31 makes them: a convolution fused with its activation, and one of another layout."""
    graph = read_graph(residual(tmp_path / "m.onnx"))
    names = [operation.outputs[0] for operation in graph.operations]
    assert names == ["stem", "stem_relu", "block_a", "block_b", "block_add", "pool", "flat", "y"]
    events = [event("carbonpilot-1-0_nchwc", "Conv", us) for us in (9000, 1000, 3000, 2000)]
    events += [event("carbonpilot-2-", "Conv", us) for us in (4000, 4000, 4000, 4000)]
    events += [event("fused carbonpilot-4-0", "Sum", us) for us in (500, 500, 500, 500)]
    events += [event("ReorderOutput", "ReorderOutput", 7000), event("other-x", "Identity", 7000)]
    events += [{"cat": "Session", "name": "carbonpilot-3-_kernel_time", "dur": 7000}]
    # The first run was the warm-up; the activation takes no time of its own; an unknown kind stays where its name says.
    assert _medians(graph, events, runs=3).tolist() == [2.0, 0.0, 4.0, 0.0, 0.5, 0.0, 0.0, 0.0]


def test_names_of_ours_do_not_change_what_is_computed(tmp_path):
    path = residual(tmp_path / "m.onnx", "n")
    graph = read_graph(path)
    image = np.random.default_rng(0).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)
    numbered = _numbered(graph)
    assert all(node.name.startswith(("carbonpilot-", "other-")) for node in numbered.graph.node)
    (got,), (wanted,) = (
        onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {"x": image})
        for m in (numbered.SerializeToString(), str(path))
    )
    assert np.abs(got - wanted).max() < 1e-6
