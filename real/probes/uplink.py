"""Rate of a link from transfers that happen anyway; nothing is sent to measure it."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass

import numpy as np

from ...envs.errors import InputError
from ...envs.probe_filter import RateFilter
from .transfer import Transfer

LEAST_BYTES = 15_000  # about the first congestion window: below it a round trip is measured, not a rate
WINDOW = 7  # newest transfers that are looked at together
KEPT_S = 30.0  # older ones say nothing about now
SPREAD = 1.25  # arrived so much more spread out than sent: the link was slower than the sender
OVER = 1.3  # a link that is surely so much faster than it was found to be has changed


@dataclass(frozen=True)
class UplinkState:
    """What is known of the rate.

    Attributes:
        rate_mbps: smoothed rate; None if nothing was measured nor assumed.
        measured_s: clock's monotonic time of the newest transfer in it; None if none.
        assumed: the rate is the prior that was given: no transfer contradicts it.
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
    """Judges the newest transfers together and smooths once per probe, as the simulator does.

    Where most of them arrived clearly more spread out than they were sent, the link was the bottleneck, and the median
    of their rates is its rate: one hiccup is not in it. Where they did not, the sender's window or pacing was, and
    they only tell which rate the link has at least: the estimate stays, or rises to that. If it rises by more than
    noise does, a slow spell is over, and the prior holds again unless the link is even faster. Transfers that had to
    send something again say nothing: they wait for it.

    `observe` may be called from any thread and never waits; `fold` is called by the probe's thread.

    Args:
        prior_mbps: rate to show until transfers contradict it (of the site file, say); marked as assumed.
        least_bytes: smaller transfers are ignored.
        window: transfers that are judged together.
    """

    def __init__(
        self, prior_mbps: float | None = None, least_bytes: int = LEAST_BYTES, window: int = WINDOW
    ) -> None:
        """Nothing measured yet."""
        if prior_mbps is not None and not (math.isfinite(prior_mbps) and prior_mbps > 0):
            raise InputError(
                f"a prior uplink rate must be positive, got {prior_mbps} Mbit/s; leave it out if unknown"
            )
        self._prior, self._least_bytes = prior_mbps, least_bytes
        self._waiting: deque[Transfer] = deque(maxlen=4096)
        self._newest: deque[Transfer] = deque(maxlen=window)
        self._rate_mbps = prior_mbps
        self._filter: RateFilter | None = None  # from the first measurement on
        self._used = self._ignored = 0

    def observe(self, transfer: Transfer) -> None:
        """Report a transfer."""
        self._waiting.append(transfer)

    def fold(self, jitter_ms: float = 0.0) -> UplinkState:
        """Take in what was reported since the last call.

        Args:
            jitter_ms: by how much round trips differ: a stretch of less than that may be the path's own.
        """
        before = self._used
        while self._waiting:
            transfer = self._waiting.popleft()
            if transfer.sent_bytes < self._least_bytes or transfer.again:
                self._ignored += 1
                continue
            self._used += 1
            self._newest.append(transfer)
            self._judge(jitter_ms / 1000)
        if self._used > before and self._rate_mbps is not None:
            if self._filter is None and self._rate_mbps != self._prior:
                self._filter = RateFilter()
            if self._filter is not None:
                self._filter.update(self._rate_mbps)
        return self._state()

    def _judge(self, jitter_s: float) -> None:
        newest = self._newest
        while newest[0].left_s < newest[-1].left_s - KEPT_S:
            newest.popleft()
        stretched = sum(t.stretched(SPREAD, jitter_s) for t in newest)
        if 2 * stretched > (newest.maxlen or 0):
            self._rate_mbps = statistics.median(t.rate_mbps for t in newest)
            return
        # The second best: one pair of acknowledgements that came together by chance tells of no fast link.
        surely = sorted(t.least_mbps(jitter_s) for t in newest)[-2:][0]
        if self._rate_mbps is None or surely > OVER * self._rate_mbps:
            self._rate_mbps = max(surely, self._prior or 0.0)
        else:
            self._rate_mbps = max(surely, self._rate_mbps)

    def _state(self) -> UplinkState:
        assumed = self._rate_mbps is not None and self._rate_mbps == self._prior
        if self._filter is not None:
            rate = self._filter.rate_mbps
        else:
            rate = None if self._rate_mbps is None else np.float32(self._rate_mbps)
        newest_s = self._newest[-1].left_s if self._newest else None
        return UplinkState(rate, newest_s, assumed, self._used, self._ignored)
