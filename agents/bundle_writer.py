"""Writes a bundle: the whole folder at once, or nothing; later only the scores of its card."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..envs.errors import InputError
from ..envs.files import atomic_directory, atomic_write_bytes
from .bundle import CARD_FILE, GRAPH_FILE, SCHEMA, WEIGHTS_FILE, Arrays, check_arrays, read_bundle, seal


def write_bundle(out_dir: str | os.PathLike[str], card: dict[str, Any], arrays: Arrays, graph: bytes) -> Path:
    """Write a bundle.

    Args:
        out_dir: folder to create; it may exist if it is empty.
        card: what the card shall say; schema, version and file hashes are added here.
        arrays: normaliser and weights, named as ``bundle.read_bundle`` returns them.
        graph: content of the ONNX file.

    Returns:
        The folder.

    Raises:
        InputError: if the folder is not empty or cannot be created.
        BundleError: if the arrays are not the network that the card describes.
        CarbonPilotError: if the disk is full; nothing is left behind then.
    """
    weights = _npz(arrays)
    contents = {WEIGHTS_FILE: weights, GRAPH_FILE: graph}
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    card = {"risk": None, **card, "schema": SCHEMA, "carbonpilot_version": __version__, "files": files}
    check_arrays(card, arrays, f"{out_dir}/{WEIGHTS_FILE}")
    contents[CARD_FILE] = seal(card)
    with atomic_directory(Path(out_dir)) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        read_bundle(folder)  # what cannot be read back must not be handed out
    return Path(out_dir)


def add_scores(bundle_dir: str | os.PathLike[str], scores: dict[str, Any]) -> None:
    """Write scores into the card of a bundle, over those of the same name; nothing else changes.

    Args:
        bundle_dir: the bundle's folder.
        scores: JSON records, best the benchmark's own: policy metrics as ``{mean, ci95: [lo, hi]}`` with
            scenario, hash, seed, episodes and command beside them.

    Raises:
        BundleError: if the bundle is damaged; scores must not make it look whole again.
        InputError: if the scores are not JSON (NaN is not).
        CarbonPilotError: if the card cannot be written; the old one stays then.
    """
    card, _ = read_bundle(bundle_dir)
    try:
        content = seal({**card, "scores": {**card["scores"], **scores}})
    except (TypeError, ValueError) as error:
        raise InputError(f"Scores must be plain JSON records without NaN: {error}.") from None
    atomic_write_bytes(Path(bundle_dir) / CARD_FILE, content)


def _npz(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
