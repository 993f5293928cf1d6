"""Head and tail of a cut as ONNX files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...agents.partition.cuts import Cut
from ...agents.partition.graph import Graph
from ...envs.errors import InputError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Parts:
    """The two files of a cut, as bytes."""

    head: bytes
    tail: bytes


def extract(graph: Graph, cut: Cut) -> Parts:
    """Cut the graph in two.

    Raises:
        InputError: ONNX cannot take it apart there.
    """
    return Parts(part(graph, graph.inputs, [cut.tensor]), part(graph, [cut.tensor], graph.outputs))


def part(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """What computes ``outputs`` from ``inputs``, as an ONNX file.

    Raises:
        InputError: ONNX cannot take it out.
    """
    import onnx

    try:
        taken = onnx.utils.Extractor(graph.model).extract_model(list(inputs), list(outputs))
        del taken.graph.value_info[:]
        onnx.checker.check_model(taken)
    except (ValueError, onnx.checker.ValidationError) as err:
        raise InputError(
            f"{graph.path} cannot be taken apart from {list(inputs)} to {list(outputs)}: {str(err).splitlines()[0]}. "
            "Likely cause: branches or loops that read across the cut. Choose another one."
        ) from err
    return taken.SerializeToString(deterministic=True)


def judged_tensors(graph: Graph) -> list[str]:
    """Activations by whose values two computations are compared.

    An output of numbers is its own witness. Of an output of classes only the equal ones can be counted, so the numbers
    before the likeliest class was taken speak for it: the nearest ones on the way back, where that way is one.
    """
    writers = {name: operation for operation in graph.operations for name in operation.outputs}
    judged = []
    for name in graph.outputs:
        while not _is_number(graph, name) and name in writers and len(writers[name].inputs) == 1:
            (name,) = writers[name].inputs
        if _is_number(graph, name):
            judged.append(name)
    return judged


def _is_number(graph: Graph, name: str) -> bool:
    tensor: Any = graph.tensors.get(name)
    return tensor is not None and tensor.dtype.startswith("float")


def as_outputs(graph: Graph, names: Sequence[str]) -> onnx.ModelProto:
    """The whole model with further outputs."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    there = {output.name for output in model.graph.output}
    known = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(known[name] for name in names if name not in there)
    return model
