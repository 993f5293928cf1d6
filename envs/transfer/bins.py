"""The bins of the transfer table: payload, path and congestion state."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .connection import MSS_BYTES, WIRE_BYTES

I64 = npt.NDArray[np.int64]

# Segments that each payload bin stands for: steps of at most 13 % from 15 to 60, where the flagship's
# 25-80 kB lie.
SEGMENTS = np.array(
    [1, 2, 4, 7, 10, 13, 15, 17, 19, 21, 23, 26, 29, 32, 36, 40, 44, 49, 55, 61, 85, 150, 350, 700],
    dtype=float,
)
LOSSES = np.array([0.0, 0.002, 0.006, 0.015, 0.035, 0.1])
PIPES = np.array([12.0, 35.0, 90.0, 300.0])  # bandwidth-delay product in segments

SEGMENT_EDGES_BYTES = np.sqrt(SEGMENTS[:-1] * SEGMENTS[1:]) * MSS_BYTES
LOSS_EDGES = np.concatenate([[0.5 * LOSSES[1]], np.sqrt(LOSSES[1:-1] * LOSSES[2:])])
PIPE_EDGES = np.sqrt(PIPES[:-1] * PIPES[1:])
N_PATHS = LOSSES.size * PIPES.size


def segment_bin(payload_bytes: npt.ArrayLike) -> I64:
    """Payload bin of payloads in bytes, any shape."""
    return np.searchsorted(SEGMENT_EDGES_BYTES, np.asarray(payload_bytes)).astype(np.int64)


def path_bin(loss: npt.ArrayLike, rate_mbps: npt.ArrayLike, rtt_ms: npt.ArrayLike) -> I64:
    """Path bin from loss (0 to 1, clipped to the last bin), rate in Mbit/s and RTT in ms, broadcast."""
    pipe = np.asarray(rate_mbps) * np.asarray(rtt_ms) * (1000.0 / 8.0 / WIRE_BYTES)
    bins = _edges_below(np.asarray(loss), LOSS_EDGES) * np.int8(PIPES.size) + _edges_below(pipe, PIPE_EDGES)
    return bins.astype(np.int64)


def _edges_below(values: npt.NDArray, edges: npt.NDArray) -> npt.NDArray[np.int8]:
    """Number of edges below each value; for a handful of edges several times faster than a binary search."""
    below = np.zeros(values.shape, dtype=np.int8)
    for edge in edges:
        below += values > edge
    return below


def random_bin(values: npt.NDArray, centres: npt.NDArray, u: npt.NDArray) -> I64:
    """Bin of each value among log-spaced centres, rounded at random so that log(value) keeps its mean."""
    place = np.interp(np.log(values), np.log(centres), np.arange(centres.size))
    return np.minimum(np.floor(place + u), centres.size - 1).astype(np.int64)
