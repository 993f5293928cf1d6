"""Carbon in units of what a local request emits: what makes episodes on clean and on dirty grids weigh the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Assumed. Where the device emits next to nothing, whatever is placed elsewhere would be infinitely dear.
LEAST_UNIT = 0.05


def local_units(local_mg: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Each episode's unit over the mean of all, so that what is divided by it stays mg of the mean episode.

    Args:
        local_mg: carbon of a local request in each episode (B,), in any unit.

    Returns:
        (B,), at least `LEAST_UNIT`; ones where no episode's local requests emit anything.
    """
    mean = float(np.mean(local_mg))
    if mean <= 0.0:
        return np.ones(len(local_mg))
    return np.maximum(np.asarray(local_mg, np.float64) / mean, LEAST_UNIT)
