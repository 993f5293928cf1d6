"""What the acks between the first and the last one of a flight see of a delay that moves."""

from __future__ import annotations

import numpy as np

from .connection import ACK_SEGMENTS, F64, JITTER_TIME_MS, Path, least_rtt_ms

# Looking at a random walk now and then misses its true extreme by this many steps on average (Broadie, Glasserman
# and Kou 1997, doi 10.1111/1467-9965.00035).
MISSED_STEPS = 0.5826
# How often a flight's fall is the whole way from its greatest to its least round-trip time: found by simulating the
# walk itself, packets kept in order (tests/test_transfer_extremes.py compares the two).
HIGH_FIRST = 0.25


def extremes(
    path: Path,
    first_ms: F64,
    last_ms: F64,
    spread_ms: F64,
    sent: F64,
    rng: np.random.Generator,
    rises_count: bool = False,
) -> tuple[F64, F64]:
    """Least round-trip time of a flight, and how far it fell at most from one of its acks to a later one.

    Over a flight the offset is close to a Brownian bridge between both ends, whose extremes have a closed
    distribution (Karatzas and Shreve, Brownian Motion and Stochastic Calculus, section 4.3).

    Args:
        path: what the connections run over.
        first_ms, last_ms: round-trip times of the first and the last packet (M,).
        spread_ms: time between both (M,).
        sent: segments of the flight (M,).
        rng: source of the draws.
        rises_count: keep the rise from first to last in what may be a fall, as environment version 0 has it.

    Returns:
        Both (M,), ms.
    """
    # Two ways with half the offset each, met at different times, so the variances of their steps add.
    variance_per_ms = path.jitter_ms**2 / JITTER_TIME_MS
    low_u, high_u, order_u = 1.0 - rng.random((3, first_ms.size))
    step_ms = spread_ms / np.maximum(sent / ACK_SEGMENTS, 1.0)
    missed = MISSED_STEPS * np.sqrt(variance_per_ms * step_ms)
    middle, gap2 = 0.5 * (first_ms + last_ms), (last_ms - first_ms) ** 2
    twice = 2.0 * variance_per_ms * spread_ms
    least = middle - 0.5 * np.sqrt(gap2 - twice * np.log(low_u)) + missed
    most = middle + 0.5 * np.sqrt(gap2 - twice * np.log(high_u)) - missed
    least = np.clip(least, least_rtt_ms(path), np.minimum(first_ms, last_ms))
    most = np.maximum(most, np.maximum(first_ms, last_ms))
    rise = 0.0 if rises_count else np.maximum(last_ms - first_ms, 0.0)
    fall = np.where(order_u < HIGH_FIRST, most - least - rise, np.maximum(first_ms - least, most - last_ms))
    return least, fall
