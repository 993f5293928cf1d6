"""The one protocol of everything that decides, and the information a policy may be built from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@runtime_checkable
class Policy(Protocol):
    """Chooses placements from observations.

    Attributes:
        name: name in tables and JSON.
    """

    name: str

    def reset(self, batch: int) -> None:
        """Start ``batch`` fresh episodes; called before the first decision of each batch."""
        ...

    def decide(
        self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64] | int:
        """Choose a placement.

        Args:
            observation: encoded observation, (F,) for one request or (B, F) for a batch.
            mask: allowed placements, (P,) or (B, P); placement 0 (local) is always allowed.

        Returns:
            An int for (F,), an int64 array (B,) for (B, F).
        """
        ...
