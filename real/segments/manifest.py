"""The manifest of a folder of segments: what was cut where, what crosses, what was proved. Read without onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from ...envs.errors import InputError, nearest
from ...envs.schema_base import Fraction, NonNegative, Strict
from ..site_file import file_sha256

MANIFEST = "manifest.json"
SCHEMA = "carbonpilot/segments/1"
Wire = Literal["float32", "float16", "uint8"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]


class HashedFile(Strict):
    """A file of the folder, relative to it."""

    file: Annotated[str, Field(pattern=r"^[^/].*$")]
    sha256: Sha256


class WholeModel(Strict):
    """The model that was cut; its file is not in the folder."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    file: str
    sha256: Sha256


class Segment(Strict):
    """One cut: a head, a tail, and what crosses.

    Attributes:
        cut: its name.
        tensor: of the activation in the model's file.
        shape: of the activation of one request, without the batch.
        wire: how it crosses.
        wire_bytes: bytes that cross for a request.
        head: for the device: the model's own inputs to the activation.
        tail: for a node: the activation to the model's own outputs.
        triton_model: name on a server.
        max_abs_difference: largest difference of a value between head and tail one after the other, with nothing lost
            between them, and the whole model; values before the likeliest class was taken.
        wire_max_abs_difference: the same with the activation sent over the wire.
        agreement: share of equal answers after the wire: classes of pixels or of images.
        checked_on: images.
    """

    cut: Annotated[str, Field(pattern=r"^cut-\d{3,}$")]
    tensor: str
    shape: list[Count]
    wire: Wire
    wire_bytes: Count
    head: HashedFile
    tail: HashedFile
    triton_model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    max_abs_difference: NonNegative
    wire_max_abs_difference: NonNegative
    agreement: Fraction
    checked_on: str


class SegmentManifest(Strict):
    """A folder of segments of one model."""

    schema_version: Annotated[Literal["carbonpilot/segments/1"], Field(alias="schema")]
    carbonpilot_version: str
    model: WholeModel
    segments: Annotated[list[Segment], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_of_each(self) -> SegmentManifest:
        names = [segment.cut for segment in self.segments]
        if len(set(names)) != len(names):
            raise ValueError(f"a cut is there twice: {names}")
        return self

    def segment(self, cut: str) -> Segment:
        """The segment of a cut.

        Raises:
            InputError: there is none; names the nearest.
        """
        known = {segment.cut: segment for segment in self.segments}
        if cut not in known:
            raise InputError(
                f"The segments of {self.model.name} have no cut '{cut}'.{nearest(cut, known)} They have: "
                f"{', '.join(known)}. Others are written by `carbonpilot segments write {self.model.file} --cut {cut}`."
            )
        return known[cut]


def read_manifest(path: str | Path) -> SegmentManifest:
    """Read the manifest of a folder, given the folder or the file.

    Raises:
        InputError: there is none, or it is damaged or of another version.
    """
    path = manifest_path(path)
    try:
        return SegmentManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"There is no {path}. Write the segments with `carbonpilot segments write MODEL.onnx --cut NAME --out DIR`."
        ) from None
    except (OSError, UnicodeDecodeError) as err:
        raise InputError(f"Cannot read {path}: {err}.") from err
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{path} is no manifest of {SCHEMA} ({key}: {first['msg']}). Likely cause: a file of another version, or "
            "changed by hand; write the segments again."
        ) from None


def manifest_path(path: str | Path) -> Path:
    """The manifest of a folder; a file is taken for the manifest itself."""
    path = Path(path)
    return path if path.suffix == ".json" else path / MANIFEST


def check_files(manifest: SegmentManifest, folder: str | Path, cut: str | None = None) -> None:
    """Compare the files of the folder with the manifest's hashes.

    Args:
        manifest: of the folder.
        folder: that holds them.
        cut: only this one's head and tail; None: all.

    Raises:
        InputError: a file is missing or has changed.
    """
    for segment in manifest.segments if cut is None else [manifest.segment(cut)]:
        for part in (segment.head, segment.tail):
            file = Path(folder) / part.file
            if not file.is_file():
                raise InputError(f"There is no file {file}, which the manifest names. {_again(manifest)}")
            if file_sha256(file) != part.sha256:
                raise InputError(
                    f"{file} is not the file that the manifest was written for (its hash differs). {_again(manifest)}"
                )


def _again(manifest: SegmentManifest) -> str:
    return (
        f"Copy the folder anew, or write it again from {manifest.model.file} (`carbonpilot segments write`)."
    )
