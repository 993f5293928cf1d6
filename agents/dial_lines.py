"""Lines through the dial: from preset to preset, and each wish turned alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..envs.dial import WISHES, load_dial
from ..envs.errors import InputError
from ..envs.schema import Wishes

PRESETS = ("green", "balanced", "performance")
PRESET_LINE, SITE = "presets", "site"
Key = tuple[float, float, float]


@dataclass(frozen=True)
class Position:
    """A position of the dial on a line through it.

    Attributes:
        line: "presets" from green over balanced to performance; the wish that is turned alone, the others at balanced;
            or "site", the scenario's own position.
        at: how far along the line, 0 to 1.
        wishes: the position.
    """

    line: str
    at: float
    wishes: Wishes

    @property
    def key(self) -> Key:
        """What tells positions apart, whichever line they lie on."""
        return key_of(self.wishes)


def key_of(wishes: Wishes) -> Key:
    """Carbon, latency, accuracy."""
    return (wishes.carbon, wishes.latency, wishes.accuracy)


def positions(points: int) -> tuple[Position, ...]:
    """The lines through the dial, each with so many positions.

    Raises:
        InputError: fewer than two points do not make a line.
    """
    if points < 2:
        raise InputError(f"--points must be at least 2, the two ends of each line, got {points}.")
    presets = load_dial().presets
    corners = np.array([presets[name].vector for name in PRESETS])
    along = np.unique([*np.linspace(0, 1, points), 0.5])  # balanced is always among them
    found = [_position(PRESET_LINE, t, _between(corners, t)) for t in along]
    middle = presets["balanced"].vector
    for i, wish in enumerate(WISHES):
        for t in np.linspace(0, 1, points):
            vector = middle.copy()
            vector[i] = t
            found.append(_position(wish, t, vector))
    return tuple(found)


def _between(corners: np.ndarray, t: float) -> np.ndarray:
    return np.array([np.interp(t, np.linspace(0, 1, len(corners)), column) for column in corners.T])


def _position(line: str, t: float, vector: np.ndarray) -> Position:
    carbon, latency, accuracy = np.round(vector, 12).tolist()
    return Position(line, float(t), Wishes(carbon=carbon, latency=latency, accuracy=accuracy))
