"""Carbon of each tape in units of what the device alone would emit on it, so that every tape weighs the same.

A mean of mg is a mean over the dirty grids: on a tape whose grids emit a fifth, a price may waste a tenth and hardly
anybody sees it. A search by such a mean is decided by a part of its tapes, so it overfits them, and its winner may be
anything on a clean site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...envs.schema import Scenario
from ..baselines import LOCAL_INDEX, Always
from ..local_unit import local_units
from ..tune_evaluate import Scores
from ..tune_workers import Players


class TapeUnits:
    """What a local request emits on each of some tapes, over the mean of all.

    Attributes:
        unit: (T,), mean about 1.
    """

    def __init__(self, players: Players) -> None:
        """Play every tape once on the device alone."""
        local_mg = players.score(_always_local, [{}]).carbon_mg[0]
        self.unit = local_units(local_mg)

    def scaled(self, scores: Scores) -> Scores:
        """Scores with each tape's carbon in its unit (C, T), mg at the mean tape's grid."""
        return replace(scores, carbon_mg=scores.carbon_mg / self.unit)


def _always_local(scenario: Scenario, parameters: Mapping[str, Any]) -> Always:
    return Always("always-local", LOCAL_INDEX)
