"""The exported computation: a picture's bytes to the class of each pixel, nothing else left to do outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .network import SegformerForSemanticSegmentation
from .variants import DEVIATION, MEAN


class SegmentationGraph(nn.Module):
    """Normalises, segments, and takes the likeliest class at a quarter of the frame's scale.

    Only resizing is left outside: devices do it with the decoder they have, and a server gets the right size.
    """

    def __init__(self, model: SegformerForSemanticSegmentation, dtype: torch.dtype = torch.float32) -> None:
        """Wrap ``model``, which computes in ``dtype``."""
        super().__init__()
        self.model: SegformerForSemanticSegmentation = model.to(dtype)  # type: ignore[arg-type]
        self.dtype = dtype
        # On bytes: (v / 255 - mean) / deviation.
        self.mean = nn.Buffer(255 * torch.tensor(MEAN).view(1, 3, 1, 1))
        self.scale = nn.Buffer(1 / (255 * torch.tensor(DEVIATION).view(1, 3, 1, 1)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment.

        Args:
            image: RGB (batch, height, width, 3) uint8.

        Returns:
            logits (batch, classes, height / 4, width / 4) float32, for checking, and mask (batch, height / 4,
            width / 4) uint8.
        """
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        normalised = (pixels - self.mean) * self.scale
        logits = self.model(pixel_values=normalised.to(self.dtype)).logits.to(torch.float32)
        return logits, logits.argmax(dim=1).to(torch.uint8)
