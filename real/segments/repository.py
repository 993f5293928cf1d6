"""A Triton model repository of the tails: one Python-backend model for each cut."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ...agents.partition.cuts import Cut
from ...agents.partition.graph import Graph, Tensor
from ...envs.errors import InputError
from ...envs.model_card import METADATA_KEY, OUTPUT, ModelCard, read_model_card
from ...envs.schema_base import NonNegative, Strict
from .configuration import as_text
from .wire import ACTIVATION, SCALE, TRITON_TYPES

REPOSITORY = "triton"  # folder of a folder of segments
_HERE = Path(__file__).parent
_CODE = {"model_tail.py": "model.py", "wire.py": "wire.py"}
TAIL = "tail.onnx"

# Triton's names of types in configurations.
_TYPES = {
    "float32": "TYPE_FP32", "float16": "TYPE_FP16", "float64": "TYPE_FP64", "uint8": "TYPE_UINT8", "int8": "TYPE_INT8",
    "int32": "TYPE_INT32", "int64": "TYPE_INT64", "bool": "TYPE_BOOL",
}  # fmt: skip


class Serving(Strict):
    """How the server runs a tail.

    Attributes:
        threads: of onnxruntime.
        max_batch: of Triton's dynamic batching.
        queue_delay_ms: of the same; 0 sends all that waits as the next batch (docs/testbed.md).
    """

    threads: Annotated[int, Field(ge=1)] = 1
    max_batch: Annotated[int, Field(ge=1, le=64)] = 8
    queue_delay_ms: NonNegative = 0.0


DEFAULT_SERVING = Serving()


@dataclass(frozen=True)
class Tail:
    """A tail to be served.

    Attributes:
        graph: the whole model.
        cut: where it was cut.
        wire: how the activation comes.
        name: on the server.
        sha256: of its ONNX file.
        model_sha256: of the whole model's.
    """

    graph: Graph
    cut: Cut
    wire: str
    name: str
    sha256: str
    model_sha256: str


def write_tail(folder: Path, tail: Tail, onnx_file: Path, serving: Serving) -> None:
    """Write the folder of one model: configuration, code, graph.

    Raises:
        InputError: the model has an output that Triton has no type for, or one without a batch.
    """
    version = folder / "1"
    version.mkdir(parents=True)
    for source, name in _CODE.items():
        shutil.copyfile(_HERE / source, version / name)
    shutil.copyfile(onnx_file, version / TAIL)
    (folder / "config.pbtxt").write_text(as_text(configuration(tail, serving)))


def configuration(tail: Tail, serving: Serving) -> dict[str, Any]:
    """The model's configuration, as Triton takes it as JSON."""
    inputs = [_tensor(ACTIVATION, "TYPE_" + TRITON_TYPES[tail.wire], list(tail.cut.shape))]
    if tail.wire == "uint8":
        inputs.append(_tensor(SCALE, "TYPE_FP32", [2]))
    return {
        "name": tail.name,
        "backend": "python",
        "max_batch_size": serving.max_batch,
        "input": inputs,
        "output": [_output(tail.graph, name) for name in tail.graph.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": round(1000 * serving.queue_delay_ms)},
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "parameters": {key: {"string_value": str(value)} for key, value in _told(tail, serving).items()},
    }


def _told(tail: Tail, serving: Serving) -> dict[str, object]:
    """What a client may check before its first request, and what the model's code needs."""
    told: dict[str, object] = {
        "cut": tail.cut.name,
        "tensor": tail.cut.tensor,
        "wire": tail.wire,
        "tail_sha256": tail.sha256,
        "model_sha256": tail.model_sha256,
        "threads": serving.threads,
    }
    card = mask_card(tail.graph)
    if card is not None:
        size = {"frame_height": card.frame_height, "frame_width": card.frame_width}
        told |= size | {"classes": len(card.classes)}
    return told


def mask_card(graph: Graph) -> ModelCard | None:
    """The card of a model that answers with masks; None for others."""
    text = graph.metadata.get(METADATA_KEY)
    return read_model_card(text, str(graph.path)) if text and graph.outputs == (OUTPUT,) else None


def _output(graph: Graph, name: str) -> dict[str, Any]:
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.dtype not in _TYPES or tensor.shape[:1] != (1,) or len(tensor.shape) < 2:
        raise InputError(
            f"{graph.path}: its output {name} {_told_of(tensor)} cannot be served: expected a known type, and a "
            "first dimension for the batch before others."
        )
    return _tensor(name, _TYPES[tensor.dtype], list(tensor.shape[1:]))


def _told_of(tensor: Tensor | None) -> str:
    return "of unknown shape" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"


def _tensor(name: str, kind: str, dims: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": kind, "dims": dims}
