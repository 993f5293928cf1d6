"""What the risk head must not look at: features that cannot change whether a placement misses the SLO.

A head that reads them learns chance relations of its training tapes (a region's grid with its links), and answers with
nonsense where they move: on a dirtier grid, at another position of the dial, at the end of a longer episode.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...envs.observation import ObservationTable

_ENDS = ("_carbon_mg", "carbon_g_per_kwh")
_NAMES = ("feed_age_h", "progress", "slo_budget_spent", "wish_carbon", "wish_latency", "wish_accuracy")


def bears_on_latency(name: str) -> bool:
    """Whether a feature may tell anything about latency; grids, wishes and the SLO's accounts do not."""
    return name not in _NAMES and not name.endswith(_ENDS)


def seen_features(table: ObservationTable) -> npt.NDArray[np.bool_]:
    """Features that the head may look at (F,)."""
    return np.array([bears_on_latency(name) for name in table.names])
