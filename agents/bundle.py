"""The bundle: a folder that holds one frozen policy, and the reasons for which it is refused.

``policy.npz`` (weights and normaliser of the network, of the risk head, or of both), ``policy.onnx`` (the same as an
ONNX graph) and ``card.json`` (what it is, for what it was made, the price on risk, hashes of the files and of the card
itself). Reading needs NumPy alone and never
unpickles. The hashes find damage and mix-ups; they are not a signature against a forger.

Nothing of ``envs`` is imported before something goes wrong: a device must not pay for Gymnasium.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from .bundle_arrays import Arrays, check_arrays, refusal

KIND = "carbonpilot/bundle/"
VERSION = 2  # what is written; 1 knew no risk head, and is read as a bundle without one
SCHEMA = f"{KIND}{VERSION}"
CARD_FILE, WEIGHTS_FILE, GRAPH_FILE = "card.json", "policy.npz", "policy.onnx"
HASHED_FILES = (WEIGHTS_FILE, GRAPH_FILE)
# What the readers rely on; the rest of the card is for people.
CARD_KEYS = {
    "schema": str,
    "carbonpilot_version": str,
    "algorithm": str,
    "output": str,
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
    version = _version(card, _where(path, CARD_FILE))
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
    for key in ("network", "risk") if version > 1 else ("network",):
        if key not in card or not isinstance(card[key], dict | None):
            raise refusal(f"{_where(path, CARD_FILE)}: '{key}' is missing or neither a dict nor null.")
    return card if version > 1 else {**card, "risk": None}


def _version(card: Any, where: str) -> int:
    """The version of a card's schema, if it can be read."""
    found = card.get("schema") if isinstance(card, dict) else type(card).__name__
    number = found.removeprefix(KIND) if isinstance(found, str) and found.startswith(KIND) else ""
    if not number.isdecimal() or int(number) < 1:
        raise refusal(f"{where}: expected schema '{SCHEMA}', got {found!r}. It is no card of a bundle.")
    if int(number) > VERSION:
        raise refusal(
            f"{where}: its schema is {found!r}, and this version of carbonpilot reads up to '{SCHEMA}'. "
            "The bundle was written by a newer version: update carbonpilot, or export with this version."
        )
    return int(number)


def read_bundle(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """Read a bundle and check every byte of it.

    Args:
        path: the bundle's folder.

    Returns:
        The card, and the arrays, float32: ``mean``, ``std`` (F,); of the network ``weight_0`` (F, H), ``bias_0`` (H,),
        ...; of the risk head ``risk_weight_0``, ``risk_bias_0``, ... A network over a risk head of P placements reads
        2 P more inputs with its first layer (clipped logits, relative scores), and P more with its last (those scores).

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
