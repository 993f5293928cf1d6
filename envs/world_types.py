"""Typed records of what the world does, second by second, whatever the placements are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


@dataclass
class LinkWorld:
    """One link for a batch of episodes, a row per second (or per request with the request clock).

    Attributes:
        rtt_ms: mean round-trip time in that second (S, B), ms.
        jitter_ms: scale of the jitter within the second (S, B), ms.
        loss: share of packets lost as TCP sees it (S, B), 0 to 1.
        rate_shape: uplink rate relative to the episode's median (S, B).
        blocked: nothing gets through in that second: a stall or an outage (S, B), bool.
        valid_rows: rows before the source ended (B,), int; S where it never ends.
    """

    rtt_ms: F32
    jitter_ms: F32
    loss: F32
    rate_shape: F32
    blocked: npt.NDArray[np.bool_]
    valid_rows: npt.NDArray[np.int64]
