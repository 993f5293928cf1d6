"""Jitter look-up tables for links: standardised, addressed by a quantile index."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ..schema import Transfer

CLIP_SIGMA = 3.0  # a normal offset beyond three sigma does not occur (assumed; keeps round trips positive)


def jitter_table(transfer: Transfer, size: int = 1024) -> npt.NDArray[np.float32]:
    """Tabulate the standardised jitter of a link at evenly spaced quantiles.

    The `empirical` transfer model has no extra rounds: all that the network adds is in the round-trip time,
    drawn as ``rtt_ms + jitter_ms * jitter_table(...)[u]``.

    Args:
        transfer: the link's transfer section; "normal" gives standard normal quantiles within +-3,
            "empirical" the scenario's own quantiles (evenly spaced from 0 to 1), interpolated.
        size: number of entries.

    Returns:
        (size,) float32, non-decreasing, in units of the link's ``jitter_ms``.
    """
    share = (np.arange(size) + 0.5) / size
    if transfer.jitter == "normal":
        normal = NormalDist()
        quantiles = np.array([normal.inv_cdf(p) for p in share])
        return np.clip(quantiles, -CLIP_SIGMA, CLIP_SIGMA).astype(np.float32)
    given = np.asarray(transfer.jitter_quantiles, dtype=float)
    return np.interp(share, np.linspace(0.0, 1.0, given.size), given).astype(np.float32)
