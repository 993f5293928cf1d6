"""SegFormer's sizes, the classes of Cityscapes, and what is published about them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One size of SegFormer (Xie et al. 2021, Table 6).

    Attributes:
        name: as in scenarios and model repositories.
        depths, hidden_sizes: of the four encoder stages.
        decoder_hidden_size: channels of the decoder.
        hub_name: the weights trained on Cityscapes, at Hugging Face.
        miou_pct: mean IoU of those weights on Cityscapes by Khan et al., Table 2.
    """

    name: str
    depths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    decoder_hidden_size: int
    hub_name: str
    miou_pct: float


VARIANTS = {
    "b0": Variant(
        name="segformer-b0",
        depths=(2, 2, 2, 2),
        hidden_sizes=(32, 64, 160, 256),
        decoder_hidden_size=256,
        hub_name="nvidia/segformer-b0-finetuned-cityscapes-1024-1024",
        miou_pct=74.6,
    ),
    "b4": Variant(
        name="segformer-b4",
        depths=(3, 8, 27, 3),
        hidden_sizes=(64, 128, 320, 512),
        decoder_hidden_size=768,
        hub_name="nvidia/segformer-b4-finetuned-cityscapes-1024-1024",
        miou_pct=80.5,
    ),
}
MIOU_SOURCE = "Khan et al., Table 2"

# Training ids of Cityscapes (cityscapesScripts, helpers/labels.py), the order of the model's outputs.
CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)

# ImageNet's, by which the weights' own image processor normalises RGB values in [0, 1].
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
