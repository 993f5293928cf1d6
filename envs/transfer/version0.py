"""The congestion controls as the tables of environment version 0 have them.

Tapes, tuned rules and trained agents stand on those tables, so what was learnt of the kernel since waits for the next
version of the environment (docs/transfer-model.md tells how much it makes).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .bbr import BEST_STRETCH, MIN_WINDOW, Bbr
from .connection import F64, Round
from .cubic import Cubic


class CubicV0(Cubic):
    """Rows of CUBIC connections (M,) by the rules of version 0."""

    version0 = True

    def _limited(self, seen: Round) -> npt.NDArray[np.bool_]:
        return seen.window_limited


class BbrV0(Bbr):
    """Rows of BBR connections (M,) by the rules of version 0."""

    version0 = True

    def _lowest_ms(self) -> F64:
        return self.min_rtt_ms

    def _best_stretch(self) -> F64:
        return np.ones_like(BEST_STRETCH)

    def _train_ms(self, seen: Round) -> F64:
        return seen.spread_ms

    def _conserve(self, seen: Round, target: F64) -> None:
        # In every round after a loss, not only in the first one of a recovery.
        conserve = np.where(seen.lost > 0, np.maximum(seen.delivered, MIN_WINDOW), 0.0)
        self.conserve = np.where(seen.timeout, 1.0, conserve)
