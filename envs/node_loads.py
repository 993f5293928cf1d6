"""Offered load of a node's other tenants, second by second."""

from __future__ import annotations

import numpy as np

from .link_sources import phase_of_row
from .schema import Background
from .streams import Stream
from .world_types import F32

TOP_LOAD = np.float32(0.96)  # the highest level of the node histories


def draw_load(background: Background, stream: Stream, rows: int, warmup: int) -> F32:
    """Draw the load (S, B), share of the node's capacity: phases, or an AR(1) walk with bursts."""
    batch = stream.keys.size
    if background.phases is not None:
        index = phase_of_row(background.phases, rows, warmup)
        values = np.array([p.load for p in background.phases], dtype=np.float32)[index]
        return np.repeat(values[:, None], batch, axis=1)
    assert background.mean_low_load is not None and background.mean_high_load is not None
    assert background.ar1_per_s is not None and background.sigma_load is not None
    low, high = np.float32(background.mean_low_load), np.float32(background.mean_high_load)
    mean = low + (high - low) * stream.uniform()
    shocks = stream.four_normals(rows)[0] * np.float32(
        background.sigma_load * np.sqrt(1 - background.ar1_per_s**2)
    )
    load = np.empty((rows, batch), dtype=np.float32)
    level = np.zeros(batch, dtype=np.float32)
    for s in range(rows):
        level = level * np.float32(background.ar1_per_s) + shocks[s]
        load[s] = level
    load += mean
    if background.bursts is not None:
        load += _bursts(background, stream, rows)
    return np.clip(load, 0, TOP_LOAD, out=load)


def _bursts(background: Background, stream: Stream, rows: int) -> F32:
    """Rises that start at random and last a few seconds; one at a time (S, B)."""
    burst = background.bursts
    assert burst is not None
    word = stream.words(rows)
    field = [((word >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.float32) / np.float32(65536) for i in range(3)]
    starts = field[0] < np.float32(burst.per_minute / 60)
    height = np.float32(burst.low_load) + np.float32(burst.high_load - burst.low_load) * field[1]
    length = np.float32(burst.low_s) + np.float32(burst.high_s - burst.low_s) * field[2]
    extra = np.zeros_like(height)
    left, current = np.zeros_like(mean_row := height[0]), np.zeros_like(mean_row)
    for s in range(rows):
        fresh = starts[s] & (left <= 0)
        left = np.where(fresh, length[s], left)
        current = np.where(fresh, height[s], current)
        extra[s] = current * (left > 0)
        left = left - np.float32(1)
    return extra
