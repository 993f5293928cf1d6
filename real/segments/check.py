"""Is a folder of segments whole, does it run here, and, beside its model, does it still do what that does?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...agents.partition.cuts import cut_points, find_cut
from ...agents.partition.graph import read_graph
from ...envs.errors import CarbonPilotError, InputError
from ..site_file import file_sha256
from .compare import Comparison, Whole, compare, open_bytes, received_over
from .extract import Parts
from .images import compared_inputs
from .manifest import Segment, SegmentManifest, check_files, manifest_path, read_manifest
from .repository import REPOSITORY, TAIL


@dataclass(frozen=True)
class Checked:
    """A segment that passed; the comparison is None where the whole model was not given."""

    segment: Segment
    comparison: Comparison | None


def check_segments(
    path: str | Path, model: str | Path | None, images: str | Path | None
) -> Iterator[Checked]:
    """Check one segment after the other.

    Args:
        path: folder or manifest.
        model: the whole model, to compare with; None: files are checked and run only.
        images: folder of pictures; None: made-up inputs.

    Raises:
        InputError: a file is missing, has changed or does not run here.
        CarbonPilotError: head and tail do not agree with the whole model.
    """
    manifest, folder = read_manifest(path), manifest_path(path).parent
    check_files(manifest, folder)
    pictures = None if images is None else Path(images)
    whole = None if model is None else _whole(manifest, Path(model), pictures)
    for segment in manifest.segments:
        _check_repository(segment, folder)
        if whole is None:
            _run(segment, folder, pictures)
            yield Checked(segment, None)
        else:
            yield Checked(segment, _compared(segment, folder, whole))


def _whole(manifest: SegmentManifest, model: Path, images: Path | None) -> Whole:
    graph = read_graph(model)
    if file_sha256(model) != manifest.model.sha256:
        raise InputError(
            f"{model} is not the model that these segments were cut from ({manifest.model.file}; the hashes differ). "
            "Give that file, or write the segments again."
        )
    return Whole(graph, images)


def _check_repository(segment: Segment, folder: Path) -> None:
    served = folder / REPOSITORY / segment.triton_model / "1" / TAIL
    if not served.is_file() or file_sha256(served) != segment.tail.sha256:
        raise InputError(f"{served} is missing or not the tail of {segment.cut}. Write the segments again.")


def _run(segment: Segment, folder: Path, images: Path | None) -> None:
    head = open_bytes(str(folder / segment.head.file), str(folder / segment.head.file))
    tail = open_bytes(str(folder / segment.tail.file), str(folder / segment.tail.file))
    inputs, _ = compared_inputs(head.get_inputs()[0], images)
    (activation,) = head.run(None, {head.get_inputs()[0].name: inputs[0]})
    got = list(activation.shape[1:] if activation.shape[0] == 1 else activation.shape)
    if got != segment.shape:
        raise InputError(f"The head of {segment.cut} gives {got}, the manifest says {segment.shape}.")
    answers = tail.run(None, {tail.get_inputs()[0].name: received_over(activation, segment.wire)})
    for answer in answers:
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            raise CarbonPilotError(f"The tail of {segment.cut} answers with values that are not finite.")


def _compared(segment: Segment, folder: Path, whole: Whole) -> Comparison:
    cut = find_cut(cut_points(whole.graph), segment.tensor, whole.graph.path)
    parts = Parts(*((folder / part.file).read_bytes() for part in (segment.head, segment.tail)))
    seen = compare(whole, cut, segment.wire, parts)
    if not seen.holds:
        raise CarbonPilotError(
            f"Head and tail of {segment.cut} are {seen.max_abs_difference:.2g} from the whole model, above "
            f"{seen.tolerance:g}. Likely cause: another onnxruntime than the one that wrote them; write them again."
        )
    return seen
