"""Writes a classification network as an ONNX file that was checked against torch before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from ... import __version__
from ...envs.errors import CarbonPilotError, InputError
from ...envs.files import atomic_write_bytes, check_output_file
from ...envs.model_card import LOGITS, ClassifierCard
from ..model_export import EXPORTER, finished, sample_images, traced, weights_sha256
from .architectures import ARCHITECTURES, Architecture
from .graph import ClassifierGraph
from .weights import Network, load_network, random_network, timm_version

STRIDE = 32  # of the last stage of all of them
# Largest difference of a score as a share of the scores' standard deviation; seen: 1e-5.
LIMIT = 1e-3


@dataclass(frozen=True)
class ExportedClassifier:
    """A written file.

    Attributes:
        path: of the file.
        card: what it says about itself.
        max_difference: largest difference of a score from torch's.
        deviation: standard deviation of the scores, which says what that means.
        size_bytes: of the file.
    """

    path: Path
    card: ClassifierCard
    max_difference: float
    deviation: float
    size_bytes: int


def export_classifier(
    model: str,
    out: str | Path,
    *,
    side: int | None = None,
    weights: str | None = None,
    random_seed: int | None = None,
    dynamic_batch: bool = False,
) -> ExportedClassifier:
    """Write a network as an ONNX file from uint8 RGB to scores.

    Args:
        model: of `ARCHITECTURES`.
        out: file to write.
        side: of the square pictures, a multiple of 32; None: the publication's.
        weights: file of a state dictionary.
        random_seed: random weights of that seed instead.
        dynamic_batch: let the first dimension be any number, for servers that batch.

    Raises:
        InputError: a size that cannot be, weights that are not there or of another network, a path that cannot be
            written.
        CarbonPilotError: the file does not compute what torch computes; nothing is written then.
    """
    architecture = ARCHITECTURES[model]
    side = architecture.side if side is None else side
    if side < STRIDE or side % STRIDE:
        raise InputError(f"--height and --width {side}: a multiple of {STRIDE} is needed, from {STRIDE} on.")
    if (weights is None) == (random_seed is None):
        raise InputError(f"Give --weights FILE or --random SEED for {model}; nothing is downloaded for it.")
    path = check_output_file(out)
    network = (
        random_network(architecture, random_seed) if weights is None else load_network(architecture, weights)  # type: ignore[arg-type]
    )
    graph = ClassifierGraph(network).eval()
    exported = traced(graph, (side, side), [LOGITS], dynamic_batch)
    difference, deviation = _compared(graph, exported, side)
    if not difference <= LIMIT * deviation:  # written so that NaN fails
        raise CarbonPilotError(
            f"The ONNX file does not compute what torch does: a score differs by {difference:.2g}, and their "
            f"standard deviation is {deviation:.2g}. Nothing was written. Likely cause: a version of torch or "
            "onnxruntime with a faulty operation; `pip install -c constraints.txt` gives those that are known to work."
        )
    card = _card(architecture, network, side, dynamic_batch)
    data = finished(exported, LOGITS, card.to_json())
    atomic_write_bytes(path, data)
    return ExportedClassifier(path, card, difference, deviation, len(data))


def _compared(graph: ClassifierGraph, exported: onnx.ModelProto, side: int) -> tuple[float, float]:
    """Largest difference of a score from torch's, and the standard deviation of torch's."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images = sample_images((side, side))
    with torch.inference_mode():
        wanted = np.concatenate([graph(torch.from_numpy(image)).numpy() for image in images])
    got = np.concatenate(
        [np.asarray(session.run([LOGITS], {session.get_inputs()[0].name: image})[0]) for image in images]
    )
    return float(np.abs(got - wanted).max()), float(wanted.std())


def _card(architecture: Architecture, network: Network, side: int, dynamic_batch: bool) -> ClassifierCard:
    return ClassifierCard.model_validate(
        {
            "schema": "carbonpilot/classifier/1",
            "model": architecture.name,
            "architecture": f"{architecture.timm_name} of timm {timm_version()}",
            "classes": network.classes,
            "frame_height": side,
            "frame_width": side,
            "dynamic_batch": dynamic_batch,
            "weights": network.source,
            "weights_sha256": weights_sha256(network.model),
            "exporter": EXPORTER,
            "carbonpilot_version": __version__,
        }
    )
