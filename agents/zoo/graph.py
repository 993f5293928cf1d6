"""The exported computation: a picture's bytes to a score for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .weights import Network


class ClassifierGraph(nn.Module):
    """Normalises and classifies; only resizing is left outside."""

    def __init__(self, network: Network) -> None:
        """Wrap a network."""
        super().__init__()
        self.model = network.model
        # On bytes: (v / 255 - mean) / deviation.
        self.mean = nn.Buffer(255 * torch.tensor(network.mean).view(1, 3, 1, 1))
        self.scale = nn.Buffer(1 / (255 * torch.tensor(network.deviation).view(1, 3, 1, 1)))

    def forward(self, image: Tensor) -> Tensor:
        """Scores (batch, classes) float32 of RGB (batch, height, width, 3) uint8."""
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        return self.model((pixels - self.mean) * self.scale)
