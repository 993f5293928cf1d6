"""Costs of operations: by hand for known layers, and the sum of a measurement."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from partition_models import CHANNELS, CLASSES, SIDE, Network, residual, weights

from carbonpilot.agents.partition.costs import eq5_costs, mac_costs
from carbonpilot.agents.partition.cuts import cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.agents.partition.measure import _medians, measured_costs

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


def test_medians_are_of_the_last_runs_of_each_operation():
    """Names of nodes that are not ours (constants folded at run time) and the warm-up count nothing."""

    def event(name, microseconds):
        return {"cat": "Node", "name": name, "dur": microseconds}

    ours = "carbonpilot-operation-{}_kernel_time"
    events = [event(ours.format(0), us) for us in (9000, 1000, 3000, 2000)]
    events += [event(ours.format(2), us) for us in (4000, 4000, 4000, 4000)]
    events += [event("other-x_kernel_time", 1e6), {"cat": "Session", "name": ours.format(1), "dur": 5}]
    assert _medians(events, 3, runs=3).tolist() == [2.0, 0.0, 4.0]
