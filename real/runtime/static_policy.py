"""Policies that need no bundle: the same placement always, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError, nearest

ALWAYS, ROUND_ROBIN = "always-", "round-robin"


class AlwaysPolicy:
    """Chooses one placement where the mask allows it, the device otherwise; as the baseline of the same name."""

    def __init__(self, name: str, placement: int) -> None:
        """``placement`` is the action's number."""
        self.name, self._placement = name, placement

    def reset(self, batch: int) -> None:
        """Nothing to forget."""

    def decide(self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> int:
        """Choose for one request."""
        return self._placement if mask[self._placement] else 0


class RoundRobinPolicy:
    """Goes round the allowed placements."""

    def __init__(self) -> None:
        """Begin with the device."""
        self.name, self._turn = ROUND_ROBIN, 0

    def reset(self, batch: int) -> None:
        """Begin with the device again."""
        self._turn = 0

    def decide(self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> int:
        """Choose for one request."""
        allowed = [number for number, may in enumerate(mask.tolist()) if may]
        self._turn += 1
        return allowed[(self._turn - 1) % len(allowed)]


def static_policy(name: str, placements: Sequence[str]) -> AlwaysPolicy | RoundRobinPolicy:
    """The policy of this name.

    Args:
        name: ``always-local``, ``always-PLACEMENT`` or ``round-robin``.
        placements: names of the site's placements, the device's first.

    Raises:
        InputError: there is none; names the nearest, and where other policies go.
    """
    known = {f"{ALWAYS}local": 0, **{f"{ALWAYS}{p}": i for i, p in enumerate(placements)}}
    if name == ROUND_ROBIN:
        return RoundRobinPolicy()
    if name not in known:
        names = [*known, ROUND_ROBIN]
        raise InputError(
            f"Unknown policy '{name}' for run.{nearest(name, names)} Without a bundle there are: {', '.join(names)}. "
            "A trained agent runs as a bundle: carbonpilot export RUN_DIR --out BUNDLE_DIR, then --bundle BUNDLE_DIR."
        )
    return AlwaysPolicy(name, known[name])
