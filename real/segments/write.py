"""Writes a folder of segments: heads, tails, a model repository of the tails, and the manifest. All or nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ...agents.partition.cuts import Cut, find_cut, need_cuts
from ...agents.partition.graph import Graph, read_graph
from ...envs.errors import CarbonPilotError, InputError
from ...envs.files import atomic_directory, write_json
from ...envs.model_card import METADATA_KEY, card_model
from ..site_file import file_sha256
from .compare import Comparison, Whole, compare
from .extract import Parts, extract
from .manifest import MANIFEST, SCHEMA, SegmentManifest, WholeModel
from .repository import DEFAULT_SERVING, REPOSITORY, TAIL, Serving, Tail, write_tail
from .wire import WIRES, WireError

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Proved:
    """A cut with its files and what was seen of them."""

    cut: Cut
    parts: Parts
    comparison: Comparison


def write_segments(
    model: str | Path,
    cuts: Sequence[str],
    wire: str,
    out: str | Path,
    *,
    images: str | Path | None = None,
    max_disagreement: float = 0.0,
    serving: Serving = DEFAULT_SERVING,
    report: Report = lambda what, done, total: None,
) -> SegmentManifest:
    """Cut a model and prove that its parts do what it does.

    Args:
        model: ONNX file with one input.
        cuts: names of cuts or of activations.
        wire: float32, float16 or uint8.
        out: folder to write; it must not exist or be empty.
        images: folder of pictures to compare on; None: made-up inputs.
        max_disagreement: share of the answers that the wire may change.
        serving: how servers run the tails.
        report: gets what is being done, how many cuts are done, and of how many.

    Returns:
        The manifest that was written.

    Raises:
        InputError: the model, a cut, the wire, the pictures or the folder is none that can be used.
        CarbonPilotError: head and tail do not agree with the whole model, or the wire loses more than is allowed;
            nothing is written then.
    """
    graph, chosen = _checked(Path(model), cuts, wire, max_disagreement)
    whole = Whole(graph, None if images is None else Path(images))
    with atomic_directory(out) as folder:
        proved = []
        for number, cut in enumerate(chosen):
            report(f"{cut.name} ({cut.tensor})", number, len(chosen))
            proved.append(_proved(whole, cut, wire, max_disagreement))
        manifest = _write(folder, graph, proved, wire, serving)
        report("written", len(chosen), len(chosen))
    return manifest


def _checked(model: Path, cuts: Sequence[str], wire: str, max_disagreement: float) -> tuple[Graph, list[Cut]]:
    if wire not in WIRES:
        raise InputError(f"--wire {wire}: expected one of {', '.join(WIRES)}.")
    if not 0.0 <= max_disagreement <= 1.0:
        raise InputError(f"--max-disagreement {max_disagreement:g}: a share from 0 to 1 is needed.")
    graph = read_graph(model)
    if len(graph.inputs) != 1:
        raise InputError(f"{model} has the inputs {list(graph.inputs)}; a device sends one.")
    known = need_cuts(graph)
    chosen = [find_cut(known, name, model) for name in cuts]
    if not chosen or len({cut.name for cut in chosen}) != len(chosen):
        raise InputError(f"Give each --cut once, and at least one; got {list(cuts)}.")
    return graph, chosen


def _proved(whole: Whole, cut: Cut, wire: str, max_disagreement: float) -> _Proved:
    """Extract a cut's parts and compare them.

    Raises:
        CarbonPilotError: see `write_segments`.
    """
    parts = extract(whole.graph, cut)
    try:
        seen = compare(whole, cut, wire, parts)
    except WireError as err:
        raise CarbonPilotError(
            f"{cut.name} ({cut.tensor}) cannot cross as {wire}: {err}. Nothing was written. Take --wire float32."
        ) from err
    if not seen.holds:
        raise CarbonPilotError(
            f"Head and tail of {cut.name} ({cut.tensor}) are {seen.max_abs_difference:.2g} from the whole model, above "
            f"{seen.tolerance:g}. Nothing was written. Likely cause: an operation with random numbers, or one that "
            "onnxruntime computes otherwise when it stands alone; choose another cut."
        )
    if 1.0 - seen.agreement > max_disagreement:
        raise CarbonPilotError(
            f"As {wire}, {cut.name} ({cut.tensor}) changes {1.0 - seen.agreement:.3%} of the answers on "
            f"{seen.checked_on}, and --max-disagreement allows {max_disagreement:.3%}. Nothing was written. Take a "
            "finer --wire, another cut, or allow it."
        )
    return _Proved(cut, parts, seen)


def _write(
    folder: Path, graph: Graph, proved: Sequence[_Proved], wire: str, serving: Serving
) -> SegmentManifest:
    model = WholeModel(name=model_name(graph), file=graph.path.name, sha256=file_sha256(graph.path))
    segments = [_write_segment(folder, graph, model, each, wire, serving) for each in proved]
    manifest = SegmentManifest.model_validate(
        {"schema": SCHEMA, "carbonpilot_version": __version__, "model": model, "segments": segments}
    )
    write_json(folder / MANIFEST, manifest.model_dump(by_alias=True))
    return manifest


def _write_segment(
    folder: Path, graph: Graph, model: WholeModel, proved: _Proved, wire: str, serving: Serving
) -> dict[str, object]:
    cut, seen = proved.cut, proved.comparison
    (folder / cut.name).mkdir()
    head, tail = f"{cut.name}/head.onnx", f"{cut.name}/{TAIL}"
    (folder / head).write_bytes(proved.parts.head)
    (folder / tail).write_bytes(proved.parts.tail)
    sha256 = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (head, tail)}
    name = f"{model.name}-{cut.name}-tail"
    served = Tail(graph, cut, wire, name, sha256[tail], model.sha256)
    write_tail(folder / REPOSITORY / name, served, folder / tail, serving)
    return {
        "cut": cut.name,
        "tensor": cut.tensor,
        "shape": list(cut.shape),
        "wire": wire,
        "wire_bytes": cut.wire_bytes(wire),
        "head": {"file": head, "sha256": sha256[head]},
        "tail": {"file": tail, "sha256": sha256[tail]},
        "triton_model": name,
        "max_abs_difference": seen.max_abs_difference,
        "wire_max_abs_difference": seen.wire_max_abs_difference,
        "agreement": seen.agreement,
        "checked_on": seen.checked_on,
    }


def model_name(graph: Graph) -> str:
    """By the file's card, else by the file's name."""
    text = card_model(graph.metadata.get(METADATA_KEY), str(graph.path)) or graph.path.stem
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "model"
