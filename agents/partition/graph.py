"""An ONNX file as what flows through it: operations in their order, and the activations between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...envs.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import onnx

BATCH = 1  # costs and sizes are of one request
_FIX = "python -m onnxruntime.tools.make_dynamic_shape_fixed"


@dataclass(frozen=True)
class Tensor:
    """A value that depends on the input.

    Attributes:
        shape: for one request.
        dtype: as NumPy names it, "float32"; "" where ONNX has not inferred it.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operation:
    """A node of the graph that depends on the input and that an output depends on.

    Attributes:
        name: unique.
        kind: ONNX's name of the operator, with the domain before it where it is not ONNX's own ("com.x.Y").
        domain: "" for ONNX's own.
        inputs: activations that it reads, each once.
        outputs: activations that it writes and that are read.
        node: as the file has it.
    """

    name: str
    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    node: onnx.NodeProto


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        path: of the file.
        model: the file's content, with the shapes that ONNX infers.
        operations: in the file's order, in which each comes after what it reads; without those that depend on
            constants alone and those that nothing depends on.
        inputs, outputs: names of the activations at both ends.
        tensors: by name, with shapes for one request; those of unknown shape are missing.
        constants: shapes of weights and of what is computed from them alone, where known.
        batched: the first dimension of the inputs may be any number.
    """

    path: Path
    model: onnx.ModelProto
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: dict[str, Tensor]
    constants: dict[str, tuple[int, ...]]
    batched: bool

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Of the file."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @cached_property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return max((o.version for o in self.model.opset_import if o.domain in _OWN_DOMAINS), default=0)


_OWN_DOMAINS = ("", "ai.onnx")


def read_graph(path: str | Path) -> Graph:
    """Read an ONNX file.

    Raises:
        InputError: there is none, it is none, or its shapes depend on more than the batch.
        MissingExtraError: onnx is not installed.
    """
    path = Path(path)
    model = _load(path)
    weights = {t.name for t in model.graph.initializer} | {
        t.values.name for t in model.graph.sparse_initializer
    }
    inputs = tuple(i.name for i in model.graph.input if i.name not in weights)
    batched = _fixed_but_for_batch(path, model, set(inputs))
    tensors, constants = _shapes(path, model, set(inputs))
    operations = _operations(model, inputs)
    active = {*inputs, *(name for o in operations for name in o.outputs)}
    outputs = tuple(o.name for o in model.graph.output if o.name in active)
    if not inputs or not outputs:
        raise InputError(f"{path}: no output depends on an input, so there is nothing to share out.")
    constants |= {name: tensor.shape for name, tensor in tensors.items() if name not in active}
    tensors = {name: tensor for name, tensor in tensors.items() if name in active}
    return Graph(path, model, operations, inputs, outputs, tensors, constants, batched)


def _load(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as err:
        raise MissingExtraError(f"Reading {path.name} (ONNX)", "models") from err
    if not path.is_file():
        raise InputError(f"There is no file {path}. Make one with `carbonpilot models export`.")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (DecodeError, ValueError) as err:  # protobuf's checks of text are ValueErrors
        raise InputError(f"{path} is not an ONNX file ({_first_line(err)}).") from err
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError) as err:
        raise InputError(
            f"{path} is not a whole ONNX model: {_first_line(err)}. Likely cause: a torn download, a file of weights "
            "that belongs beside it, or a newer version of ONNX than the one here."
        ) from err


def _fixed_but_for_batch(path: Path, model: onnx.ModelProto, inputs: set[str]) -> bool:
    """Whether the first dimension of the inputs is free.

    Raises:
        InputError: another one is.
    """
    batched = False
    for value in model.graph.input:
        if value.name not in inputs:
            continue
        dims = [
            d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in value.type.tensor_type.shape.dim
        ]
        free = [str(d) for d in dims[1:] if not isinstance(d, int)]
        if free:
            fixed = ",".join(str(d) if isinstance(d, int) else "NUMBER" for d in dims)
            raise InputError(
                f"{path}: the shape of its input {value.name} {dims} is not fixed ({', '.join(free)}), so nothing has "
                "a size that could be planned with. Only the first dimension, the batch, may be free. "
                f"Fix it: {_FIX} --input_name {value.name} --input_shape {fixed} {path.name} FIXED.onnx"
            )
        if dims and not isinstance(dims[0], int):
            batched = True
        elif dims and dims[0] != BATCH:
            raise InputError(
                f"{path}: its input {value.name} {dims} is for a batch of {dims[0]}. Export it for one request, or "
                "with a free first dimension."
            )
    return batched


def _shapes(
    path: Path, model: onnx.ModelProto, inputs: set[str]
) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Activations and weights with the sizes that they have for one request."""
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in single.graph.input:
        if value.name in inputs and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = BATCH
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    except onnx.shape_inference.InferenceError as err:
        raise InputError(f"{path}: ONNX cannot tell the sizes inside: {_first_line(err)}.") from err
    tensors = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        if kind.HasField("shape") and all(d >= 0 for d in dims):
            tensors[value.name] = Tensor(tuple(dims), _numpy_name(kind.elem_type))
    constants = {t.name: tuple(t.dims) for t in graph.initializer}
    return tensors, constants


def _numpy_name(element: int) -> str:
    import onnx

    return str(onnx.helper.tensor_dtype_to_np_dtype(element)) if element else ""


def _operations(model: onnx.ModelProto, inputs: tuple[str, ...]) -> tuple[Operation, ...]:
    """What lies between inputs and outputs.

    Nodes that read constants only are constants themselves: exporters put an `Identity` on weights that two layers
    share, and a cut is none if such a one seems to cross it.
    """
    active, forward = set(inputs), []
    for number, node in enumerate(model.graph.node):
        read = [name for name in dict.fromkeys(_reads(node)) if name in active]
        if read:
            active.update(name for name in node.output if name)
            forward.append((number, node, read))
    wanted, kept = {o.name for o in model.graph.output}, []
    for number, node, read in reversed(forward):
        written = tuple(name for name in node.output if name in wanted)
        if written:
            wanted.update(read)
            kept.append(_operation(number, node, read, written))
    return tuple(reversed(kept))


def _operation(number: int, node: onnx.NodeProto, read: list[str], written: tuple[str, ...]) -> Operation:
    domain = "" if node.domain in _OWN_DOMAINS else node.domain
    kind = f"{domain}.{node.op_type}" if domain else node.op_type
    return Operation(node.name or f"{kind}-{number}", kind, domain, tuple(read), written, node)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also from inside its branches and loops."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own.update(name for inner in graph.node for name in inner.output)
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in own)
            yield from (value.name for value in graph.output if value.name not in own)


def _first_line(err: Any) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".")[:200]
