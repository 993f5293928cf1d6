"""What all exports of models share: torch to ONNX, and the file as it is shipped."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch

from ..envs.model_card import INPUT, METADATA_KEY

# 20 is the first with Gelu as one operation. onnxruntime 1.17 and newer have it.
OPSET = 20
EXPORTER = f"torch {torch.__version__}, opset {OPSET}"
IMAGES, SEED = 4, 0  # that torch and onnxruntime are compared on


def traced(
    graph: torch.nn.Module, size: tuple[int, int], outputs: Sequence[str], dynamic_batch: bool
) -> onnx.ModelProto:
    """A graph from `INPUT` (batch, height, width, 3) uint8 as ONNX.

    Args:
        graph: in evaluation mode.
        size: height and width.
        outputs: names, in the graph's order.
        dynamic_batch: let the batch be any number.
    """
    # The tracer takes a dimension of 1 for a constant.
    example = torch.zeros((2 if dynamic_batch else 1, *size, 3), dtype=torch.uint8)
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic_batch else None
    with _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            input_names=[INPUT],
            output_names=list(outputs),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=batch,
            verbose=False,
        )
    assert program is not None  # always with dynamo
    return program.model_proto


def finished(model: onnx.ModelProto, output: str, card: str) -> bytes:
    """The file as it is shipped: one output, its card, no traces of the machine that made it."""
    kept = next(value for value in model.graph.output if value.name == output)
    del model.graph.output[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, kept):
        del part.metadata_props[:]  # the exporter notes stack traces here
        part.doc_string = ""
    model.graph.output.append(kept)
    del model.graph.metadata_props[:], model.graph.value_info[:], model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: card})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def weights_sha256(model: torch.nn.Module) -> str:
    """Over names, types, shapes and values: the same weights in another file have the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def sample_images(size: tuple[int, int]) -> list[np.ndarray]:
    """Noise, whose every pixel differs, and smooth fields, which look more like what a camera sees."""
    rng = np.random.default_rng(SEED)
    height, width = size
    noise = [rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8) for _ in range(IMAGES // 2)]
    coarse = [rng.integers(0, 256, (1, height // 32, width // 32, 3), dtype=np.uint8) for _ in noise]
    return noise + [image.repeat(32, axis=1).repeat(32, axis=2) for image in coarse]


class _quiet:  # noqa: N801
    """Keep the exporter's deprecation notices and its list of missing vision operators from the user."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._logger = logging.getLogger("torch.onnx")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        self._logger.setLevel(self._level)
        self._warnings.__exit__(*error)  # type: ignore[arg-type]
