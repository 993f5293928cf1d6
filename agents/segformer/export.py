"""Writes SegFormer as an ONNX file (``carbonpilot models export``) that was checked against torch before."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from ... import __version__
from ...envs.errors import CarbonPilotError, InputError
from ...envs.files import atomic_write_bytes, check_output_file
from ...envs.model_card import OUTPUT, ModelCard
from ..model_export import EXPORTER, finished, traced
from .agreement import Agreement, compare
from .graph import SegmentationGraph
from .variants import CLASSES, VARIANTS, Variant
from .weights import Weights, load_weights, random_weights

STRIDE = 32  # of SegFormer's last stage


@dataclass(frozen=True)
class ExportedModel:
    """A written file.

    Attributes:
        path: of the file.
        card: what it says about itself.
        agreement: of the file with torch.
        size_bytes: of the file.
    """

    path: Path
    card: ModelCard
    agreement: Agreement
    size_bytes: int


def export_segformer(
    model: str,
    out: str | Path,
    *,
    height: int,
    width: int,
    weights: str | None = None,
    random_seed: int | None = None,
    precision: str = "fp32",
    dynamic_batch: bool = False,
) -> ExportedModel:
    """Write SegFormer as an ONNX file from uint8 RGB to uint8 classes at a quarter of the scale.

    Args:
        model: "b0" or "b4".
        out: file to write.
        height, width: of the frames, multiples of 32.
        weights: folder, or name at Hugging Face; None: the variant's own name there.
        random_seed: random weights of that seed instead.
        precision: "fp32" or "fp16".
        dynamic_batch: let the first dimension be any number, for servers that batch.

    Raises:
        InputError: a size that cannot be, weights that are not there or of another model, a path that cannot be
            written.
        CarbonPilotError: the file does not compute what torch computes; nothing is written then.
    """
    variant = VARIANTS[model]
    for name, side in (("height", height), ("width", width)):
        if side < STRIDE or side % STRIDE:
            raise InputError(f"--{name} {side}: a multiple of {STRIDE} is needed, from {STRIDE} on.")
    if weights is not None and random_seed is not None:
        raise InputError("Give --weights or --random, not both.")
    path = check_output_file(out)
    loaded = load_weights(variant, weights) if random_seed is None else random_weights(variant, random_seed)
    graph = SegmentationGraph(loaded.model).eval()
    exported = _onnx_graph(graph, (height, width), precision, dynamic_batch)
    agreement = compare(graph, exported.SerializeToString(), (height, width), precision)
    if not agreement.holds:
        raise CarbonPilotError(
            f"The ONNX file does not compute what torch does: {agreement}. Nothing was written. Likely cause: a "
            "version of torch or onnxruntime with a faulty operation; `pip install -c constraints.txt` gives "
            "those that are known to work."
        )
    card = _card(variant, loaded, (height, width), precision, dynamic_batch)
    data = finished(exported, OUTPUT, card.to_json())
    atomic_write_bytes(path, data)
    return ExportedModel(path, card, agreement, len(data))


def _card(
    variant: Variant, loaded: Weights, size: tuple[int, int], precision: str, dynamic_batch: bool
) -> ModelCard:
    return ModelCard.model_validate(
        {
            "schema": "carbonpilot/model/1",
            "model": variant.name,
            "classes": list(CLASSES),
            "frame_height": size[0],
            "frame_width": size[1],
            "dynamic_batch": dynamic_batch,
            "precision": precision,
            "weights": loaded.source,
            "weights_sha256": loaded.sha256,
            "miou_pct": loaded.miou_pct,
            "miou_source": loaded.miou_source,
            "exporter": EXPORTER,
            "carbonpilot_version": __version__,
        }
    )


def _onnx_graph(
    graph: SegmentationGraph, size: tuple[int, int], precision: str, dynamic_batch: bool
) -> onnx.ModelProto:
    """The graph as ONNX, with both outputs."""
    if precision == "fp16":
        graph = SegmentationGraph(copy.deepcopy(graph.model), torch.float16).eval()
    return traced(graph, size, ["LOGITS", OUTPUT], dynamic_batch)
