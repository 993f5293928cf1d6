"""The risk folder: a risk head with its price, whole or refused.

risk.npz     the head: mean, std (F,); weight_0 (F, H), bias_0 (H,), ... weight_n (H, P), bias_n (P,); float32
price.json   the price, what both were made for, how well the head is calibrated, what making them cost
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ...envs.errors import InputError
from ...envs.files import atomic_directory, write_json
from ...envs.observation import build_table
from ...envs.schema import Scenario
from ...envs.schema_base import Strict
from ...envs.validation import validated
from ..bundle import NOT_NUMBERS
from .head import RiskHead, check_arrays
from .parameters import complete_price

SCHEMA = "carbonpilot/risk/1"
HEAD_FILE, CARD_FILE = "risk.npz", "price.json"
MAKE = "carbonpilot risk train {scenario} --out DIR"

Arrays = dict[str, npt.NDArray[np.float32]]


class RiskCard(Strict):
    """Content of ``price.json``.

    Attributes:
        carbonpilot_version: what wrote it.
        table_sha256: observation table of the head.
        scenario, scenario_sha256, family: what the head was trained and the price tuned on.
        actions: placements, in the order of the logits.
        price: by name, see `parameters.EVERY`.
        caution: ``slope`` and ``shift`` that the device's calibrated logits have gone through (`parameters.CAUTION`).
        calibration: by placement, see `calibration.py`; of the device before that.
        training: what making it cost and gave, stage by stage.
        files: SHA-256 of the other files.
    """

    schema_version: Literal["carbonpilot/risk/1"] = Field(alias="schema")
    carbonpilot_version: str
    table_sha256: str
    scenario: str
    scenario_sha256: str
    family: str
    actions: list[str]
    price: dict[str, float]
    caution: dict[str, float] = {"slope": 1.0, "shift": 0.0}  # noqa: RUF012 (a record's default is copied)
    calibration: dict[str, Any]
    training: dict[str, Any]
    files: dict[str, str]


class Risk:
    """A head's arrays and the card beside it."""

    def __init__(self, arrays: Arrays, card: RiskCard) -> None:
        """Keep both; `read_risk` checks them."""
        self.arrays, self.card = arrays, card

    @property
    def head(self) -> RiskHead:
        """A fresh head; each thread needs its own."""
        return RiskHead(self.arrays)


def read_risk(folder: str | os.PathLike[str], *, table_sha256: str | None = None) -> Risk:
    """Read a risk folder and check every byte of it.

    Args:
        folder: made by `carbonpilot risk train`.
        table_sha256: hash of the observation table here, if it shall be checked.

    Raises:
        InputError: the folder is incomplete or changed, or was made for another table.
    """
    path = Path(folder)
    card = _read_card(path)
    content = _read(path / HEAD_FILE)
    digest = hashlib.sha256(content).hexdigest()
    if card.files.get(HEAD_FILE) != digest:
        raise InputError(
            f"{path / HEAD_FILE} was changed: {CARD_FILE} says SHA-256 {card.files.get(HEAD_FILE)}, the file has "
            f"{digest}. Copy the folder again, or make it again: {MAKE.format(scenario=card.scenario)}"
        )
    arrays = _load_arrays(path / HEAD_FILE, content)
    check_arrays(arrays, str(path / HEAD_FILE))
    if RiskHead(arrays).actions != len(card.actions):
        raise InputError(f"{path}: the head does not have one logit for each of {card.actions}.")
    if table_sha256 is not None and card.table_sha256 != table_sha256:
        raise InputError(
            f"{path}: the risk head was trained on another observation table: its SHA-256 is {card.table_sha256[:12]}, "
            f"this site's is {table_sha256[:12]}. Make one for it: {MAKE.format(scenario=card.scenario)}"
        )
    return Risk(arrays, card)


def read_risk_for(folder: str | os.PathLike[str], scenario: Scenario) -> Risk:
    """Read a risk folder for a scenario.

    Raises:
        InputError: as `read_risk`, or it was made for another family or other placements.
    """
    risk = read_risk(folder)
    card, actions = risk.card, [p.name for p in scenario.placements]
    if card.family != scenario.family or card.actions != actions:
        raise InputError(
            f"{folder}: the risk head was made for scenario '{card.scenario}' of family '{card.family}' with "
            f"placements {card.actions}; '{scenario.name}' of family '{scenario.family}' has {actions}. "
            f"Make one for it: {MAKE.format(scenario=scenario.name)}"
        )
    return read_risk(folder, table_sha256=build_table(scenario).sha256)


def write_risk(folder: str | os.PathLike[str], arrays: Arrays, card: dict[str, Any]) -> Path:
    """Write a risk folder, whole or not at all.

    Args:
        folder: to create; it may exist if it is empty.
        arrays: of the head.
        card: as `RiskCard`; schema and hashes are added.

    Raises:
        InputError: the folder is in use or cannot be written, or the parts are no risk head and price.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    files = {HEAD_FILE: hashlib.sha256(buffer.getvalue()).hexdigest()}
    with atomic_directory(Path(folder)) as temporary:
        (temporary / HEAD_FILE).write_bytes(buffer.getvalue())
        write_json(temporary / CARD_FILE, {"schema": SCHEMA, **card, "files": files})
        read_risk(temporary)  # what cannot be read back must not be handed out
    return Path(folder)


def is_risk_folder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like one."""
    return (Path(folder) / CARD_FILE).is_file()


def _read_card(path: Path) -> RiskCard:
    if not is_risk_folder(path):
        raise InputError(f"{path} is not a risk folder: expected {CARD_FILE} and {HEAD_FILE} in it.")
    try:
        content = json.loads(_read(path / CARD_FILE))
    except ValueError as error:
        raise InputError(
            f"{path / CARD_FILE} is damaged: not JSON ({error}). Make the folder again."
        ) from None
    found = content.get("schema") if isinstance(content, dict) else type(content).__name__
    if found != SCHEMA:
        raise InputError(
            f"{path / CARD_FILE}: expected schema '{SCHEMA}', got {found!r}. Make the folder again."
        )
    card = validated(RiskCard, content, str(path / CARD_FILE))
    complete_price(card.price)
    return card


def _load_arrays(path: Path, content: bytes) -> Arrays:
    """Load the npz without ever unpickling: an array of objects is an error, not code."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except NOT_NUMBERS as error:
        raise InputError(f"{path} is not a plain NumPy archive of numbers: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Is the risk folder whole?") from None
