"""What a device makes of its probes, one value at a time, in the very arithmetic of the simulator's telemetry.

`envs.telemetry` does this for whole tapes at once; a test compares the two bit for bit. Single precision
throughout, so that a replayed log gives the observation that the device saw.
"""

from __future__ import annotations

import numpy as np

SMOOTHING = np.float32(0.3)  # weight of the newest probe, assumed
HUNDRED = np.float32(100.0)
ZERO = np.float32(0.0)


def smoothed(old: np.float32, new: np.float32) -> np.float32:
    """Move a smoothed value towards a new one: ``old + 0.3 (new - old)``."""
    return old + SMOOTHING * (new - old)


class RttFilter:
    """Last and smoothed round-trip time and its smoothed absolute deviation, ms; None before the first answer."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.last_ms: np.float32 | None = None
        self.smooth_ms: np.float32 | None = None
        self.deviation_ms: np.float32 | None = None

    def answered(self, rtt_ms: float) -> None:
        """Take in an answered probe."""
        last = np.float32(rtt_ms)
        if self.smooth_ms is None or self.deviation_ms is None:
            self.last_ms, self.smooth_ms, self.deviation_ms = last, last, ZERO
            return
        error = last - self.smooth_ms
        self.last_ms = last
        self.smooth_ms = self.smooth_ms + SMOOTHING * error
        self.deviation_ms = smoothed(self.deviation_ms, abs(error))


class LossFilter:
    """Smoothed share of lost packets, %. Starts at none lost, as the simulator's."""

    def __init__(self) -> None:
        """Start at nothing lost."""
        self.loss_pct: np.float32 = ZERO

    def update(self, share: float) -> None:
        """Take in a share (0 to 1) of lost packets: 1 for a probe that got no answer."""
        self.loss_pct = smoothed(self.loss_pct, HUNDRED * np.float32(share))


class RateFilter:
    """Smoothed uplink rate, Mbit/s; None before the first measurement."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.rate_mbps: np.float32 | None = None

    def update(self, rate_mbps: float) -> None:
        """Take in a measured rate."""
        new = np.float32(rate_mbps)
        self.rate_mbps = new if self.rate_mbps is None else smoothed(self.rate_mbps, new)
