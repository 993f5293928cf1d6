"""The classification networks that CarbonEdge and Ng et al. use, by their names in timm."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A network.

    Attributes:
        name: as in scenarios and model repositories.
        timm_name: of timm.create_model.
        side: pixels of the square pictures that its publication uses.
    """

    name: str
    timm_name: str
    side: int


ARCHITECTURES = {
    "mobilenetv2": Architecture("mobilenetv2", "mobilenetv2_100", 224),
    # CarbonEdge names no variant; of timm's only the small convolutional one has its 3.8 million parameters.
    "mobilenetv4": Architecture("mobilenetv4", "mobilenetv4_conv_small", 224),
    "efficientnet-b0": Architecture("efficientnet-b0", "efficientnet_b0", 224),
}
