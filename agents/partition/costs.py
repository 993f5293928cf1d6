"""What the operations of a graph cost: CarbonEdge's layer cost, multiply-accumulates, or measured time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .graph import Graph, Operation

F64 = npt.NDArray[np.float64]
KINDS = ("eq5", "macs", "measured")
UNITS = {"eq5": "of eq (5)", "macs": "MAC", "measured": "ms here"}


@dataclass(frozen=True)
class Costs:
    """Costs of a graph's operations.

    Attributes:
        kind: one of `KINDS`.
        values: of each operation (O,).
        note: how they came about.
    """

    kind: str
    values: F64
    note: str

    @property
    def total(self) -> float:
        """Of the whole graph."""
        return float(self.values.sum())

    def of_blocks(self, last: npt.ArrayLike) -> F64:
        """Costs of the stretches that end with the given operations (B,) and begin after the one before."""
        summed = np.concatenate([[0.0], np.cumsum(self.values)])
        return np.diff(summed[np.concatenate([[0], np.asarray(last, np.intp) + 1])])


def eq5_costs(graph: Graph) -> Costs:
    """CarbonEdge eq (5), as printed.

    kh x kw x Cin x Cout for a convolution, Nin x Nout for a linear layer, the number of parameters for all others. It
    leaves out how often a kernel is applied, so early layers count too little, and the groups of a convolution, so a
    depthwise one counts C times too much (docs/partition.md has both in numbers). An activation has no parameters and
    costs nothing.
    """
    values = np.array([_eq5(graph, operation) for operation in graph.operations])
    return Costs("eq5", values, "CarbonEdge eq (5) as printed")


def _eq5(graph: Graph, operation: Operation) -> float:
    constants = [graph.constants[name] for name in operation.node.input if name in graph.constants]
    kernel = next((shape for shape in constants if len(shape) >= 2), None)
    if operation.kind in ("Conv", "ConvTranspose") and kernel is not None:
        groups = _attribute(operation, "group", 1)
        # Stored as (Cout, Cin / groups, kh, kw), transposed ones the other way round: the product is the same.
        return float(math.prod(kernel) * groups)  # kh x kw x Cin x Cout
    if operation.kind in ("Gemm", "MatMul") and kernel is not None:
        return float(math.prod(kernel[-2:]))  # Nin x Nout
    return float(sum(math.prod(shape) for shape in constants if len(shape) >= 1))  # params count


def mac_costs(graph: Graph) -> Costs:
    """Multiply-accumulates of convolutions and matrix products; all other operations count nothing."""
    values = np.array([_macs(graph, operation) for operation in graph.operations])
    return Costs("macs", values, "multiply-accumulates")


def _macs(graph: Graph, operation: Operation) -> float:
    shapes = [_shape(graph, name) for name in operation.node.input]
    out = _shape(graph, operation.outputs[0])
    if operation.kind == "Conv" and out is not None and shapes[1] is not None:
        return float(math.prod(out) * math.prod(shapes[1][1:]))
    if operation.kind == "ConvTranspose" and shapes[0] is not None and shapes[1] is not None:
        return float(math.prod(shapes[0]) * math.prod(shapes[1][1:]))
    if operation.kind in ("Gemm", "MatMul") and out is not None and shapes[0] is not None:
        transposed = operation.kind == "Gemm" and _attribute(operation, "transA", 0)
        return float(math.prod(out) * shapes[0][-2 if transposed else -1])
    return 0.0


def _shape(graph: Graph, name: str) -> tuple[int, ...] | None:
    if name in graph.tensors:
        return graph.tensors[name].shape
    return graph.constants.get(name)


def _attribute(operation: Operation, name: str, default: int) -> int:
    return next((a.i for a in operation.node.attribute if a.name == name), default)
