"""Does the ONNX file compute what torch computes?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from ..model_export import IMAGES, sample_images
from .graph import SegmentationGraph

# Largest difference of a logit as a share of the logits' standard deviation, and smallest share of equal pixels.
# Seen with random weights, where classes tie often: 4e-6 and 0.99997 in fp32, 5e-3 and 0.999 in fp16.
LIMITS = {"fp32": (1e-3, 0.999), "fp16": (0.05, 0.99)}


@dataclass(frozen=True)
class Agreement:
    """How far two computations of the same images are apart.

    Attributes:
        logits_max_diff: largest absolute difference of a logit.
        logits_deviation: standard deviation of the logits, which says what that difference means.
        equal_pixels: share of the mask's pixels with the same class.
        precision: of the file.
    """

    logits_max_diff: float
    logits_deviation: float
    equal_pixels: float
    precision: str

    @property
    def holds(self) -> bool:
        """Whether the file may be used in place of the model."""
        share, pixels = LIMITS[self.precision]
        # Written so that NaN fails.
        return self.logits_max_diff <= share * self.logits_deviation and self.equal_pixels >= pixels

    def __str__(self) -> str:
        return (
            f"largest difference of a logit {self.logits_max_diff:.2g} (their standard deviation is "
            f"{self.logits_deviation:.2g}), {self.equal_pixels:.4%} of the pixels have the same class"
        )


def compare(graph: SegmentationGraph, onnx_file: bytes, size: tuple[int, int], precision: str) -> Agreement:
    """Run both on random images.

    Args:
        graph: computes in float32, so that a file of less precision is judged against the full one.
        onnx_file: with both outputs of the graph.
        size: height and width.
        precision: of the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    worst, deviation, equal = 0.0, 0.0, 0.0
    for image in sample_images(size):
        with torch.inference_mode():
            logits, mask = (t.numpy() for t in graph(torch.from_numpy(image)))
        got_logits, got_mask = session.run(None, {session.get_inputs()[0].name: image})
        worst = float(np.maximum(worst, np.abs(got_logits - logits).max()))
        deviation += float(logits.std()) / IMAGES
        equal += float((got_mask == mask).mean()) / IMAGES
    return Agreement(worst, deviation, equal, precision)
