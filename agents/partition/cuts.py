"""Cut points: activations that alone cross from what comes before them to what comes after."""

from __future__ import annotations

from dataclasses import dataclass

from ...envs.errors import InputError, nearest
from .graph import Graph

WIRES = ("float32", "float16", "uint8")
BYTES = {"float32": 4, "float16": 2, "uint8": 1}
SCALE_BYTES = {"float32": 0, "float16": 0, "uint8": 8}  # two float32 travel beside the bytes: scale and zero
CARRIED = ("float32", "float16")  # types of activations that the wires are made for


@dataclass(frozen=True)
class Cut:
    """A place where the network comes apart.

    Attributes:
        name: "cut-012", its number in the order of execution, from 1.
        tensor: name of the activation in the file.
        shape: of one request, without the batch where the first dimension is that.
        dtype: of the activation.
        after: number of the operation that writes it; those up to it are the head, the others the tail.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    after: int

    @property
    def elements(self) -> int:
        """Numbers that cross."""
        count = 1
        for side in self.shape:
            count *= side
        return count

    def wire_bytes(self, wire: str) -> int:
        """Bytes that cross for a request."""
        return self.elements * BYTES[wire] + SCALE_BYTES[wire]


def cut_points(graph: Graph) -> list[Cut]:
    """All cuts in the order of execution, in time linear in the graph.

    After an operation, an activation is alive if it has been written and is still to be read, or is an output. Where
    one alone is alive, every path from input to output goes through it. That does not depend on the order that the
    file has among several: where all paths go through an activation, all other operations come either before or after
    it. Input and outputs themselves are no cuts, and neither is an activation of whole numbers, which no wire is made
    for.
    """
    readers: dict[str, int] = dict.fromkeys(graph.outputs, 1)  # an output lives to the end
    for operation in graph.operations:
        for name in operation.inputs:
            readers[name] = readers.get(name, 0) + 1
    alive = set(graph.inputs) & set(readers)
    found: list[Cut] = []
    for number, operation in enumerate(graph.operations):
        for name in operation.inputs:
            readers[name] -= 1
            if readers[name] == 0:
                alive.discard(name)
        alive.update(operation.outputs)
        if len(alive) == 1 and number + 1 < len(graph.operations):
            (name,) = alive
            tensor = graph.tensors.get(name)
            if tensor is not None and tensor.dtype in CARRIED and name not in graph.outputs:
                shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
                found.append(Cut(f"cut-{len(found) + 1:03d}", name, shape, tensor.dtype, number))
    return found


def need_cuts(graph: Graph) -> list[Cut]:
    """All cuts.

    Raises:
        InputError: there is none.
    """
    cuts = cut_points(graph)
    if not cuts:
        raise InputError(
            f"{graph.path} has no valid cut: nowhere does one activation of floating-point numbers alone cross from "
            "what comes before to what comes after. Likely cause: connections from the first layers to the last ones "
            "(U-Net and the like), or a quantised model. It runs whole, on the device or on a node."
        )
    return cuts


def find_cut(cuts: list[Cut], name: str, where: object) -> Cut:
    """A cut by its name, or by that of its activation.

    Raises:
        InputError: there is none; names the nearest.
    """
    for cut in cuts:
        if name in (cut.name, cut.tensor):
            return cut
    known = [cut.name for cut in cuts] + [cut.tensor for cut in cuts]
    raise InputError(
        f"{where} has no cut '{name}'.{nearest(name, known)} It has {len(cuts)}, {cuts[0].name} to {cuts[-1].name}; "
        "`carbonpilot partition MODEL.onnx --cuts` lists them."
    )
