"""The policy `learned-risk`: risk head and price. It is what reinforcement learning has to beat."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.errors import InputError
from ...envs.observation import build_table
from ...envs.schema import Scenario
from ..baselines import LOCAL_INDEX, Choice, Mask, Observation
from ..shipped import folder_names
from .folder import HEAD_FILE, MAKE, Arrays, is_risk_folder, read_risk_for
from .head import RiskHead
from .parameters import CAUTION
from .price import Price

NAME = "learned-risk"
SHIPPED = Path(__file__).resolve().parent.parent / "pretrained" / "risk"


class LearnedRisk:
    """Chooses the allowed placement of the lowest score. Implements the ``Policy`` protocol.

    Attributes:
        name: in tables and JSON.
        head, price: what it is made of.
        knows_dial: it heeds the wishes: the price reads them.
    """

    knows_dial = True

    def __init__(
        self, scenario: Scenario, head: RiskHead | CautiousHead, price: Price, name: str = NAME
    ) -> None:
        """Put both together; ``load`` and ``shipped`` are the usual ways in."""
        self.name, self.head, self.price = name, head, price
        self._scenario = scenario

    @classmethod
    def load(cls, folder: str | os.PathLike[str], scenario: Scenario, name: str | None = None) -> LearnedRisk:
        """Load a risk folder.

        Raises:
            InputError: it is damaged, or was made for another family, other placements or another table.
        """
        risk = read_risk_for(folder, scenario)
        own_name = os.path.basename(os.path.abspath(folder))
        return cls(scenario, risk.head, Price(scenario, risk.card.price), name or own_name)

    def reset(self, batch: int) -> None:
        """Nothing to forget: every decision follows from its observation alone."""

    def decide(self, observation: Observation, mask: Mask) -> Choice | int:
        """Choose placements; see `Policy.decide`.

        Raises:
            InputError: an observation holds NaN or infinity, or a shape is wrong.
        """
        logits = self.head.logits(observation)
        scores = self.price.scores(observation, logits)
        if not np.isfinite(scores).all():
            raise self._bad_observation(observation)
        choice = np.where(mask, scores, np.inf).argmin(axis=-1)
        return int(choice) if observation.ndim == 1 else choice

    def _bad_observation(self, observation: Observation) -> InputError:
        """Name the features that are not numbers; deciding on them would be choosing blindly."""
        rows = np.atleast_2d(observation)
        row = rows[int(np.argmin(np.isfinite(rows).all(axis=1)))]
        names = build_table(self._scenario).names
        bad = [f"{name} = {value}" for name, value in zip(names, row, strict=True) if not np.isfinite(value)]
        what = ", ".join(bad) if bad else "finite features whose logits are too large for float32"
        return InputError(f"Observation: expected finite features, got {what}.")


class CautiousHead:
    """A head whose logits of the device are a line through what it says, another one for each episode of a batch."""

    def __init__(self, head: RiskHead, slope: Any, shift: Any) -> None:
        """Slope and shift are numbers or (B,)."""
        self._head, self._slope, self._shift = head, slope, shift

    def logits(self, observation: Observation) -> Any:
        """As `RiskHead.logits`."""
        logits = self._head.logits(observation)
        logits[..., LOCAL_INDEX] = logits[..., LOCAL_INDEX] * self._slope + self._shift
        return logits


@dataclass(frozen=True)
class LearnedRiskMaker:
    """Makes the policy from prices with caution (`parameters.CAUTION`), each a number or one per episode.

    It can be sent to another process.
    """

    arrays: Arrays

    def __call__(self, scenario: Scenario, parameters: Mapping[str, Any]) -> LearnedRisk:
        """Build the policy."""
        price = dict(parameters)
        slope, shift = (np.asarray(price.pop(t.name), np.float32) for t in CAUTION)
        return LearnedRisk(
            scenario, CautiousHead(RiskHead(self.arrays), slope, shift), Price(scenario, price)
        )


def shipped_folder(scenario: Scenario) -> Path | None:
    """Folder of the head that is shipped for a scenario or its family (`shipped.folder_names`); None without one."""
    names = folder_names(scenario)
    return next((SHIPPED / name for name in names if is_risk_folder(SHIPPED / name)), None)


def is_shipped(scenario: Scenario) -> bool:
    """Whether `learned-risk` exists for a scenario: a head is shipped, and it fits."""
    try:
        return shipped_folder(scenario) is not None and shipped(scenario) is not None
    except InputError:
        return False


def shipped(scenario: Scenario) -> LearnedRisk:
    """The policy `learned-risk` of a scenario.

    Raises:
        InputError: no head is shipped for it, or the one that is was made for something else; says how to make one.
    """
    folder = shipped_folder(scenario)
    if folder is None:
        raise InputError(
            f"No risk head is shipped for scenario '{scenario.name}' of family '{scenario.family}'. Make one with "
            f"`{MAKE.format(scenario=scenario.name)}` and give DIR as the policy (a folder with {HEAD_FILE})."
        )
    return LearnedRisk.load(folder, scenario, NAME)
