"""Offered load of a node's other tenants, second by second."""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .link_sources import phase_of_row
from .schema import Background
from .streams import Stream
from .world_types import F32

FIELD, ONE_FIELD, TWO_FIELDS = np.uint64(0xFFFF), np.uint64(16), np.uint64(32)
TOP_LOAD = np.float32(0.96)  # the highest level of the node histories


def draw_load(background: Background, stream: Stream, rows: int, warmup: int) -> F32:
    """Draw the load (S, B), share of the node's capacity: phases, or an AR(1) walk with bursts."""
    if background.phases is not None:
        index = phase_of_row(background.phases, rows, warmup)
        values = np.array([p.load for p in background.phases], dtype=np.float32)[index]
        return np.repeat(values[:, None], stream.keys.size, axis=1)
    # The schema says that these come together.
    assert background.mean_low_load is not None
    assert background.mean_high_load is not None
    assert background.ar1_per_s is not None
    assert background.sigma_load is not None
    low, high = np.float32(background.mean_low_load), np.float32(background.mean_high_load)
    mean = low + (high - low) * stream.uniform()
    shocks = stream.four_normals(rows, used=1)[0] * np.float32(
        background.sigma_load * np.sqrt(1 - background.ar1_per_s**2)
    )
    load = shocks
    _wander(load, np.float32(background.ar1_per_s))
    load += mean
    if background.bursts is not None:
        burst = background.bursts
        shape = np.array([burst.per_minute / 60, burst.low_load, burst.high_load - burst.low_load, burst.low_s,
                          burst.high_s - burst.low_s], dtype=np.float32)  # fmt: skip
        _add_bursts(load, shape, stream.words(rows))
    return np.clip(load, 0, TOP_LOAD, out=load)


@compiled
def _wander(shocks: F32, kept: np.float32) -> None:
    """Turn shocks (S, B) into the AR(1) walk that they drive, in place."""
    for s in range(1, shocks.shape[0]):
        for b in range(shocks.shape[1]):
            shocks[s, b] += shocks[s - 1, b] * kept


@compiled
def _add_bursts(load: F32, shape: F32, words: np.ndarray) -> None:
    """Add rises that start at random and last a few seconds, one at a time, to a load (S, B).

    Args:
        load: changed in place.
        shape: starts per second, lowest and range of the height, lowest and range of the length (s).
        words: random words (S, B), three 16-bit numbers of each are used.
    """
    per_s, low, span, shortest, longer = shape
    scale = np.float32(2.0**-16)
    left, height = np.zeros(load.shape[1], np.float32), np.zeros(load.shape[1], np.float32)
    for s in range(load.shape[0]):
        for b in range(load.shape[1]):
            if left[b] <= 0.0:
                word = words[s, b]
                height[b] = 0.0
                if np.float32(word & FIELD) * scale < per_s:
                    height[b] = low + span * (np.float32((word >> ONE_FIELD) & FIELD) * scale)
                    left[b] = shortest + longer * (np.float32((word >> TWO_FIELDS) & FIELD) * scale)
            load[s, b] += height[b]
            left[b] -= 1.0
