"""Where a graph can be cut: against removing each activation, and against what is known of small graphs."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from partition_models import MASKS_CUTS, RESIDUAL_CUTS, Network, masks, residual, tangled

from carbonpilot.agents.partition.cuts import cut_points, find_cut, need_cuts
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.envs.errors import InputError

FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize(("build", "expected"), [(residual, RESIDUAL_CUTS), (masks, MASKS_CUTS)])
@pytest.mark.parametrize("batch", [1, "n"])
def test_cuts_of_known_networks(tmp_path, build, expected, batch):
    """Not inside the residual block, although a shared weight's Identity lies across; not classes of whole numbers."""
    graph = read_graph(build(tmp_path / "m.onnx", batch))
    cuts = cut_points(graph)
    assert [cut.tensor for cut in cuts] == expected
    assert [cut.name for cut in cuts] == [f"cut-{n:03d}" for n in range(1, len(expected) + 1)]
    assert graph.batched is (batch == "n")


def test_sizes_of_what_crosses(tmp_path):
    cut = cut_points(read_graph(residual(tmp_path / "m.onnx")))[2]
    assert (cut.tensor, cut.shape, cut.elements) == ("block_add", (4, 8, 8), 256)
    assert [cut.wire_bytes(wire) for wire in ("float32", "float16", "uint8")] == [1024, 512, 264]


@st.composite
def random_graphs(draw) -> onnx.ModelProto:
    """Operations that each add up one to three earlier values, some of them constants; one or two outputs."""
    net, names, constants = Network(), ["x"], ["k"]
    net.constant("k", np.ones(3, np.float32))
    for number in range(draw(st.integers(1, 9))):
        pool = names[-draw(st.integers(1, 3)) :] + constants
        inputs = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
        name = f"v{number}"
        net.add("Sum", inputs, name)
        (constants if set(inputs) <= set(constants) else names).append(name)
    outputs = sorted({names[-1], draw(st.sampled_from(names))} - {"x"}) or [net.add("Neg", ["x"], "y")]
    return net.model([("x", FLOAT, [1, 3])], [(name, FLOAT, [1, 3]) for name in outputs])


def separates(model: onnx.ModelProto, tensor: str) -> bool:
    """Whether no path leads from x to an output without going through a tensor."""
    reached = {"x"}
    for node in model.graph.node:
        if reached & set(node.input) - {tensor}:
            reached.update(node.output)
    return not any(o.name in reached - {tensor} for o in model.graph.output)


@given(random_graphs())
@settings(max_examples=300)
def test_cuts_are_the_activations_without_which_no_path_is_left(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("graphs") / "g.onnx"
    onnx.save(model, str(path))
    outputs = {o.name for o in model.graph.output}
    alive = {"x"}  # what depends on the input
    for node in model.graph.node:
        if alive & set(node.input):
            alive.update(node.output)
    if not alive & outputs:
        with pytest.raises(InputError, match="no output depends on an input"):
            read_graph(path)
        return
    cuts = cut_points(read_graph(path))
    written = [
        name for node in model.graph.node for name in node.output if name in alive and name not in outputs
    ]
    assert [cut.tensor for cut in cuts] == [name for name in written if separates(model, name)]


def test_a_branch_that_reads_from_outside_counts_as_a_reader(tmp_path):
    """An If whose branch reads an activation from before it: what lies between is no cut."""

    def branch(read):
        return helper.make_graph(
            [helper.make_node("Relu", [read], ["out"])],
            "b",
            [],
            [helper.make_tensor_value_info("out", FLOAT, [1, 3])],
        )

    net = Network()
    net.add("Neg", ["x"], "early")
    net.add("Abs", ["early"], "later")
    net.add("ReduceMax", ["later"], "most", keepdims=0)
    net.add("Cast", ["most"], "flag", to=TensorProto.BOOL)
    net.nodes.append(
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("early"), else_branch=branch("later"))
    )
    path = net.save(tmp_path / "m.onnx", [("x", FLOAT, [1, 3])], [("y", FLOAT, [1, 3])])
    assert [cut.tensor for cut in cut_points(read_graph(path))] == ["early"]


def test_time_grows_as_the_graph_does(tmp_path):
    """Twenty times the operations must not take a hundred times as long (a square would take four hundred)."""

    def taken(count: int) -> float:
        net, last = Network(), "x"
        for n in range(count):
            last = net.add("Neg", [last], f"v{n}")
        graph = read_graph(
            net.save(tmp_path / f"{count}.onnx", [("x", FLOAT, [1, 3])], [(last, FLOAT, [1, 3])])
        )
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            assert len(cut_points(graph)) == count - 1
            best = min(best, time.process_time() - start)
        return best

    assert taken(10_000) < 100 * max(taken(500), 1e-4)


def test_a_network_without_cuts_is_told(tmp_path):
    with pytest.raises(InputError, match=r"has no valid cut.*U-Net.*It runs whole"):
        need_cuts(read_graph(tangled(tmp_path / "m.onnx")))


def test_names_that_are_none_are_told(tmp_path):
    cuts = cut_points(read_graph(residual(tmp_path / "m.onnx")))
    assert find_cut(cuts, "cut-003", "m") == find_cut(cuts, "block_add", "m") == cuts[2]
    with pytest.raises(InputError, match=r"m has no cut 'block_ad'\. Did you mean 'block_add'\?"):
        find_cut(cuts, "block_ad", "m")


def dynamic(path, dims):
    net = Network()
    net.add("Relu", ["x"], "a")
    net.add("Neg", ["a"], "y")
    return net.save(path, [("x", FLOAT, dims)], [("y", FLOAT, dims)])


def test_shapes_that_are_not_fixed_are_told_with_the_command_that_fixes_them(tmp_path):
    with pytest.raises(
        InputError, match=r"\['n', 3, 'h', 'w'\] is not fixed \(h, w\).*the batch, may be free"
    ) as err:
        read_graph(dynamic(tmp_path / "m.onnx", ["n", 3, "h", "w"]))
    assert "make_dynamic_shape_fixed --input_name x --input_shape NUMBER,3,NUMBER,NUMBER m.onnx" in str(
        err.value
    )
    with pytest.raises(InputError, match="for a batch of 4"):
        read_graph(dynamic(tmp_path / "m.onnx", [4, 3]))
    assert read_graph(dynamic(tmp_path / "m.onnx", ["n", 3])).tensors["a"].shape == (1, 3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no file"),
        (b"not a model", "is not an? (whole )?ONNX"),
        (b"", "is not a whole ONNX model"),
    ],
)
def test_files_that_are_no_models_are_told(tmp_path, content, said):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_graph(path)


def test_a_folder_or_a_torn_file_is_told(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="There is no file"):
        read_graph(tmp_path / "folder.onnx")
    whole = residual(tmp_path / "m.onnx").read_bytes()
    (tmp_path / "torn.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is not a"):
        read_graph(tmp_path / "torn.onnx")
