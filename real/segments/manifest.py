"""What a folder of segments says about itself; read without onnx."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...envs.errors import InputError
from ...envs.schema_base import Strict
from ...envs.validation import validated

MANIFEST = "manifest.json"
Wire = Literal["float32", "float16", "uint8"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class HashedFile(Strict):
    """A file of the folder."""

    file: str
    sha256: Sha256


class WholeModel(Strict):
    """The model that was split."""

    name: str
    file: str
    sha256: Sha256


class Segment(Strict):
    """One cut: head and tail."""

    cut: str
    tensor: str
    shape: list[int]
    wire: Wire
    wire_bytes: Annotated[int, Field(ge=1)]
    head: HashedFile
    tail: HashedFile
    triton_model: str
    max_abs_difference: float
    agreement: float
    checked_on: str


class SegmentManifest(Strict):
    """All cuts of a model."""

    schema_version: Annotated[Literal["carbonpilot/segments/1"], Field(alias="schema")]
    model: WholeModel
    segments: list[Segment]


def read_manifest(path: str | Path) -> SegmentManifest:
    """Read a manifest, or that of a folder.

    Raises:
        InputError: there is none, or it is broken.
    """
    path = Path(path)
    path = path / MANIFEST if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"No manifest of segments at {path}. Make them with `carbonpilot segments write`."
        ) from None
    except ValueError as err:
        raise InputError(f"{path}: expected JSON, got none ({err}).") from None
    return validated(SegmentManifest, content, str(path))
