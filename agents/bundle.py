"""The bundle: a folder that holds one frozen policy, and the reasons for which it is refused.

``policy.npz`` (weights and normaliser), ``policy.onnx`` (the same as an ONNX graph) and ``card.json`` (what
it is, for what it was made, hashes of the files and of the card itself). Reading needs NumPy alone and never
unpickles. The hashes find damage and mix-ups; they are not a signature against a forger.

Nothing of ``envs`` is imported before something goes wrong: a device must not pay for Gymnasium.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

SCHEMA = "carbonpilot/bundle/1"
CARD_FILE, WEIGHTS_FILE, GRAPH_FILE = "card.json", "policy.npz", "policy.onnx"
HASHED_FILES = (WEIGHTS_FILE, GRAPH_FILE)
ACTIVATIONS = ("relu", "tanh")
# What the readers rely on; the rest of the card is for people.
CARD_KEYS = {
    "schema": str,
    "carbonpilot_version": str,
    "algorithm": str,
    "output": str,
    "network": dict,
    "observation": dict,
    "actions": list,
    "scenario": str,
    "scenario_family": str,
    "scenario_sha256": str,
    "seed": int,
    "training": dict,
    "scores": dict,
    "files": dict,
}
UNSEALED = "0" * 64
# Everything that np.load raises on bytes that are no archive of numbers.
NOT_NUMBERS = (ValueError, TypeError, AttributeError, OSError, EOFError, MemoryError, zipfile.BadZipFile)

Arrays = dict[str, npt.NDArray[np.float32]]


def refusal(message: str) -> Exception:
    """Build the BundleError for a bundle that must not be used."""
    from ..envs.errors import BundleError  # late, see the module's docstring

    return BundleError(message)


def seal(card: dict[str, Any]) -> bytes:
    """Return the card as file content, with the hash of that content (its own digits as zeros) inside."""
    text = json.dumps({**card, "card_sha256": UNSEALED}, indent=2, sort_keys=True, allow_nan=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(UNSEALED, digest).encode()


def read_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check the card of a bundle.

    Args:
        path: the bundle's folder.

    Returns:
        The card's records.

    Raises:
        BundleError: if the folder is no bundle, the schema is another or the card was changed.
    """
    if not os.path.isdir(path):
        raise refusal(f"'{os.fspath(path)}' is not a bundle: expected a folder with {CARD_FILE}.")
    content = _read(path, CARD_FILE)
    try:
        text = content.decode()
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refusal(f"{_where(path, CARD_FILE)} is damaged: not JSON ({error}). Export again.") from None
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        found = card.get("schema") if isinstance(card, dict) else type(card).__name__
        raise refusal(
            f"{_where(path, CARD_FILE)}: expected schema '{SCHEMA}', got {found!r}. "
            "Export the run again with this version of carbonpilot."
        )
    digest = card.pop("card_sha256", None)
    unsealed = text.replace(str(digest), UNSEALED) if isinstance(digest, str) and len(digest) == 64 else ""
    if hashlib.sha256(unsealed.encode()).hexdigest() != digest:
        raise refusal(
            f"{_where(path, CARD_FILE)} was changed: its content does not match its card_sha256. "
            "Cards are not edited by hand; export the run again."
        )
    for key, kind in CARD_KEYS.items():
        if not isinstance(card.get(key), kind):
            raise refusal(f"{_where(path, CARD_FILE)}: '{key}' is missing or not a {kind.__name__}.")
    return card


def read_bundle(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """Read a bundle and check every byte of it.

    Args:
        path: the bundle's folder.

    Returns:
        The card, and the arrays ``mean``, ``std`` (F,), ``weight_0`` (F, H), ``bias_0`` (H,), ... float32.

    Raises:
        BundleError: if a file is missing or changed or does not hold what the card says.
    """
    card = read_card(path)
    contents = {name: _read(path, name) for name in HASHED_FILES}
    for name, content in contents.items():
        digest = hashlib.sha256(content).hexdigest()
        if card["files"].get(name) != digest:
            raise refusal(
                f"{_where(path, name)} was changed: the card says SHA-256 {card['files'].get(name)}, "
                f"the file has {digest}. Copy the bundle again or export the run again."
            )
    arrays = _load_arrays(_where(path, WEIGHTS_FILE), contents[WEIGHTS_FILE])
    check_arrays(card, arrays, _where(path, WEIGHTS_FILE))
    return card, arrays


def check_arrays(card: dict[str, Any], arrays: Arrays, where: str) -> None:
    """Raise BundleError unless the arrays are the finite float32 network that the card describes."""
    try:
        sizes = [int(n) for n in card["network"]["layers"]]
        features, activation = len(card["observation"]["features"]), card["network"]["activation"]
    except (KeyError, TypeError, ValueError) as error:
        raise refusal(f"{where}: the card does not describe the network ({error!r}).") from None
    if sizes[:1] != [features] or sizes[-1:] != [len(card["actions"])] or len(sizes) < 2:
        raise refusal(
            f"{where}: layers {sizes} do not lead from {features} features to {len(card['actions'])} actions."
        )
    if activation not in ACTIVATIONS:
        raise refusal(f"{where}: activation '{activation}' is unknown; known: {', '.join(ACTIVATIONS)}.")
    expected: dict[str, tuple[int, ...]] = {"mean": (features,), "std": (features,)}
    for i, shape in enumerate(pairwise(sizes)):
        expected[f"weight_{i}"], expected[f"bias_{i}"] = shape, shape[1:]
    if arrays.keys() != expected.keys():
        raise refusal(f"{where}: expected arrays {sorted(expected)}, got {sorted(arrays)}.")
    for name, shape in expected.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            raise refusal(
                f"{where}: {name} must be finite float32 {shape}, got {array.dtype} {array.shape}"
                " or a number that is not finite."
            )
    if not (arrays["std"] > 0).all():
        raise refusal(f"{where}: the normaliser's std must be above 0 everywhere.")


def _load_arrays(where: str, content: bytes) -> Arrays:
    """Load the npz without ever unpickling: an array of objects is an error, not code."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except NOT_NUMBERS as error:
        raise refusal(f"{where} is not a plain NumPy archive of numbers: {error}") from None


def _read(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        with open(os.path.join(path, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise refusal(f"'{os.fspath(path)}' is not a whole bundle: {name} is missing.") from None
    except OSError as error:
        raise refusal(f"{_where(path, name)} cannot be read: {error.strerror}.") from None


def _where(path: str | os.PathLike[str], name: str) -> str:
    return os.path.join(os.fspath(path), name)
