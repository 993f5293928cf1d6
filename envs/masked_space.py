"""The action space of a site whose nodes can be absent: sampling it without a mask gives allowed placements only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces


class AllowedPlacements(spaces.Discrete):
    """``Discrete(P)`` that knows the present episode's mask, so that the usual random loop never asks what cannot be.

    It equals the plain space of its size; `contains` holds for masked placements too (the environment refuses them).
    """

    def __init__(self, count: int) -> None:
        """All ``count`` placements are allowed until the first episode."""
        super().__init__(count)
        self._allowed = np.ones(count, dtype=np.int8)

    def allow(self, mask: npt.NDArray[np.bool_]) -> None:
        """Take the mask of a new episode (P,)."""
        self._allowed = mask.astype(np.int8)

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """An allowed placement, all equally likely, or by the caller's own mask or probabilities."""
        if mask is None and probability is None:
            return super().sample(mask=self._allowed)
        return super().sample(mask=mask, probability=probability)
