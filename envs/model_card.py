"""What an exported model says about itself: a JSON text in its ONNX file's metadata, under one key.

There are two kinds: models that answer with masks, which devices and servers execute for the runtime, and classifiers,
which are there to be cut and shared out.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from .errors import InputError
from .schema_base import Percent, Strict

METADATA_KEY = "carbonpilot"
MASKS, CLASSIFIER = "carbonpilot/model/1", "carbonpilot/classifier/1"  # the kinds of cards
INPUT, OUTPUT = "IMAGE", "MASK"  # names of a model's only input and output, in ONNX files and on servers
LOGITS = "LOGITS"  # output of a classifier
MASK_SCALE = 4  # a mask has a quarter of the frame's height and width

Card = TypeVar("Card", bound=Strict)
Side = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]


class ModelCard(Strict):
    """A model from `INPUT`, RGB (batch, height, width, 3) uint8, to `OUTPUT` (batch, height / 4, width / 4) uint8."""

    schema_version: Annotated[Literal["carbonpilot/model/1"], Field(alias="schema")]
    model: str  # "segformer-b0"
    classes: list[str]  # names by the number in the mask
    frame_height: Side
    frame_width: Side
    dynamic_batch: bool
    precision: Literal["fp32", "fp16"]
    weights: str  # where they come from
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # over names, shapes and values
    # As published for these weights, at the publication's frame size; none for others.
    miou_pct: Percent | None
    miou_source: str | None
    exporter: str  # versions of what made the file
    carbonpilot_version: str

    @model_validator(mode="after")
    def _said_by(self) -> ModelCard:
        if (self.miou_pct is None) != (self.miou_source is None):
            raise ValueError("miou_pct and miou_source go together")
        return self

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the mask."""
        return self.frame_height // MASK_SCALE, self.frame_width // MASK_SCALE

    def to_json(self) -> str:
        """As the text to keep under `METADATA_KEY`."""
        return self.model_dump_json(by_alias=True)


class ClassifierCard(Strict):
    """A model from `INPUT`, RGB (batch, height, width, 3) uint8, to `LOGITS` (batch, classes) float32.

    Nothing is said about its accuracy: what is published belongs to weights, and a file of weights does not say which.
    """

    schema_version: Annotated[Literal["carbonpilot/classifier/1"], Field(alias="schema")]
    model: str  # "mobilenetv2"
    architecture: str  # "mobilenetv2_100 of timm 1.0.31"
    classes: Annotated[int, Field(ge=2)]
    frame_height: Side
    frame_width: Side
    dynamic_batch: bool
    weights: str  # where they come from
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # over names, shapes and values
    exporter: str  # versions of what made the file
    carbonpilot_version: str

    def to_json(self) -> str:
        """As the text to keep under `METADATA_KEY`."""
        return self.model_dump_json(by_alias=True)


def read_model_card(text: str, where: str) -> ModelCard:
    """Read the text that `ModelCard.to_json` made; ``where`` names the file.

    Raises:
        InputError: it is none, or of another kind or version.
    """
    return _read(ModelCard, MASKS, text, where)


def read_classifier_card(text: str, where: str) -> ClassifierCard:
    """Read the text that `ClassifierCard.to_json` made; ``where`` names the file.

    Raises:
        InputError: it is none, or of another kind or version.
    """
    return _read(ClassifierCard, CLASSIFIER, text, where)


def card_model(text: str | None, where: str) -> str | None:
    """The model's name by a card of either kind; None where there is no card."""
    if text is None:
        return None
    kind, schema = (ClassifierCard, CLASSIFIER) if f'"{CLASSIFIER}"' in text else (ModelCard, MASKS)
    return _read(kind, schema, text, where).model


def _read(kind: type[Card], schema: str, text: str, where: str) -> Card:
    try:
        return kind.model_validate_json(text)
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where}: the metadata '{METADATA_KEY}' is no card of {schema} ({key}: {first['msg']}). "
            "Likely cause: a file of another version or kind; export the model again."
        ) from None
