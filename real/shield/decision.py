"""What the shield decided about a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)  # not frozen: that takes a microsecond longer
class Decision:
    """Where a frame goes.

    Attributes:
        number: of the decision, from 0.
        placement: where.
        wanted: what the policy chose; None where it was not asked or failed.
        reason: "policy", or the guard that overruled it (`GUARDS`).
        mask: allowed placements (P,).
        fallback_at_ms: time after the decision at which local is to start in parallel if there is no answer by then, so
            that its own upper latency still meets the SLO; None: it is not to, or it could not any more.
        believed_ms, upper_ms: of the placement.
    """

    number: int
    placement: int
    wanted: int | None
    reason: str
    mask: npt.NDArray[np.bool_]
    fallback_at_ms: float | None
    believed_ms: float
    upper_ms: float
