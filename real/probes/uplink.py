"""Uplink rate from transfers that happen anyway; nothing is sent to measure it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from ...envs.errors import InputError
from ...envs.probe_filter import RateFilter
from .tcp_info import TcpInfo

LEAST_BYTES = 15_000  # about the first congestion window: below it a round trip is measured, not a rate
MBIT_PER_BYTE = 8e-6


@dataclass(frozen=True)
class UplinkState:
    """What is known of the rate.

    Attributes:
        rate_mbps: smoothed rate; None if nothing was measured nor assumed.
        measured_s: clock's monotonic time of the newest transfer in it; None if none.
        assumed: the rate is the prior that was given, not a measurement.
        used: transfers used so far.
        ignored: transfers that said nothing about the rate.
    """

    rate_mbps: np.float32 | None
    measured_s: float | None
    assumed: bool
    used: int
    ignored: int

    def age_s(self, now_s: float) -> float:
        """Seconds since the newest transfer; infinite if none."""
        return math.inf if self.measured_s is None else max(0.0, now_s - self.measured_s)


class UplinkEstimator:
    """Pools the transfers between two probes and smooths once per probe, as the simulator does.

    `observe` may be called from any thread and never waits; `fold` is called by the probe's thread.

    Args:
        prior_mbps: rate to show until the first transfer (of the site file, say); marked as assumed.
        least_bytes: smaller transfers are ignored.
    """

    def __init__(self, prior_mbps: float | None = None, least_bytes: int = LEAST_BYTES) -> None:
        """Nothing measured yet."""
        if prior_mbps is not None and not (math.isfinite(prior_mbps) and prior_mbps > 0):
            raise InputError(
                f"a prior uplink rate must be positive, got {prior_mbps} Mbit/s; leave it out if unknown"
            )
        self._prior = None if prior_mbps is None else np.float32(prior_mbps)
        self._least_bytes = least_bytes
        self._waiting: deque[tuple[int, float, float, bool]] = deque(maxlen=4096)
        self._filter = RateFilter()
        self._measured_s: float | None = None
        self._used = self._ignored = 0

    def observe(
        self,
        sent_bytes: int,
        start_s: float,
        end_s: float,
        *,
        not_sending_s: float = 0.0,
        app_limited: bool = False,
    ) -> None:
        """Report a transfer.

        Args:
            sent_bytes: payload.
            start_s: the clock's monotonic time when its first byte was given to the network.
            end_s: when its last byte was known to have arrived (an acknowledgement or the answer).
            not_sending_s: part of that time in which nothing was sent: one RTT, and the server's queue
                and computing if the end is its answer.
            app_limited: the sender did not keep the link busy, so the transfer says nothing about its rate.
        """
        self._waiting.append((sent_bytes, end_s - start_s - not_sending_s, end_s, app_limited))

    def observe_tcp(self, info: TcpInfo, span_s: float, now_s: float) -> None:
        """Report the kernel's delivery rate of a connection, standing for ``span_s`` seconds of sending."""
        if info.delivery_rate_bytes_per_s is None:
            return
        sent = round(info.delivery_rate_bytes_per_s * span_s)
        self._waiting.append((sent, span_s, now_s, bool(info.app_limited)))

    def fold(self) -> UplinkState:
        """Take in what was reported since the last call; the rate is bytes over time of all of it together."""
        pooled, spent_s, newest_s = 0, 0.0, self._measured_s
        while self._waiting:
            sent, took_s, end_s, app_limited = self._waiting.popleft()
            if app_limited or sent < self._least_bytes or not (0 < took_s < math.inf):
                self._ignored += 1
                continue
            self._used += 1
            pooled, spent_s = pooled + sent, spent_s + took_s
            newest_s = end_s if newest_s is None else max(newest_s, end_s)
        if spent_s > 0:
            self._filter.update(MBIT_PER_BYTE * pooled / spent_s)
            self._measured_s = newest_s
        assumed = self._filter.rate_mbps is None and self._prior is not None
        rate = self._prior if assumed else self._filter.rate_mbps
        return UplinkState(rate, self._measured_s, assumed, self._used, self._ignored)
