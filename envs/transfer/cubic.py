"""CUBIC congestion control, a round at a time (RFC 9438, with Linux' details where they differ)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .connection import F64, Connection, Path, Round

C_PER_S3 = 0.4  # RFC 9438 section 5
BETA = 0.7  # RFC 9438 section 4.6
RENO_GAIN = 3.0 * (1.0 - BETA) / (1.0 + BETA)  # RFC 9438 equation (4), alpha_cubic
UNKNOWN_GROWTH = 0.05  # Linux tcp_cubic.c: at least 5 % a round while no loss has shown the capacity
HYSTART_LOW_WINDOW = 16.0  # Linux tcp_cubic.c; RFC 9406 has 16 segments of samples
HYSTART_LOW_MS, HYSTART_HIGH_MS = 4.0, 16.0  # RFC 9406 section 4.3


class Cubic(Connection):
    """Rows of CUBIC connections (M,)."""

    def __init__(self, path: Path) -> None:
        """Open connections in slow start."""
        super().__init__(path)
        size = self.cwnd.size
        self.ssthresh = np.full(size, np.inf)
        self.w_max = np.zeros(size)  # 0: no loss yet
        self.origin = np.zeros(size)
        self.k_s = np.zeros(size)
        self.epoch_ms = np.full(size, -1.0)  # time spent in congestion avoidance; negative: no epoch
        self.w_reno = np.zeros(size)
        self.delay_min_ms = np.full(size, np.inf)

    def pacing(self) -> F64:
        """CUBIC sends its window at once (no fq queue discipline below it)."""
        return np.full(self.cwnd.size, np.inf)

    def quantum(self) -> F64:
        """Segments that leave without pacing."""
        return np.zeros(self.cwnd.size)

    def window(self) -> F64:
        """Segments that may be in flight (M,)."""
        return np.maximum(np.floor(self.cwnd), 1.0)

    def after_idle(self, idle_ms: F64, rto_ms: F64) -> None:
        """Halve the window for each timeout that passed idle, down to the initial one (RFC 2861, Linux)."""
        halvings = np.maximum(np.floor(idle_ms / rto_ms), 0.0)
        idle = halvings > 0
        self.ssthresh = np.where(idle, np.maximum(self.ssthresh, 0.75 * self.cwnd), self.ssthresh)
        restart = np.minimum(self.cwnd, 10.0)
        self.cwnd = np.where(idle, np.maximum(self.cwnd * 0.5**halvings, restart), self.cwnd)

    def on_round(self, path: Path, seen: Round) -> None:
        """Grow or shrink the window after a round."""
        self.delay_min_ms = np.minimum(self.delay_min_ms, seen.rtt_ms)
        slow = self.cwnd < self.ssthresh
        self._slow_start(slow & ~seen.new_loss, seen)
        self._avoid(~slow & self._limited(seen) & ~seen.new_loss & (seen.resent == 0), seen)
        self._reduce(seen.new_loss | seen.timeout)
        self.cwnd = np.where(seen.timeout, 1.0, self.cwnd)  # RFC 9438 section 4.8

    def _limited(self, seen: Round) -> npt.NDArray[np.bool_]:
        # A window that was full is remembered until something is sent after all of it was acked, so the acks of an
        # upload's last packets let it grow too (Linux tcp_cwnd_validate).
        return seen.window_limited | (self.stalled & (self.rounds > 0))

    def _slow_start(self, who: np.ndarray, seen: Round) -> None:
        # Linux tcp_is_cwnd_limited: in slow start the window may reach twice what was sent.
        grown = np.minimum(self.cwnd + seen.delivered, np.maximum(2.0 * seen.sent, self.cwnd))
        grown = np.minimum(grown, np.maximum(self.ssthresh, self.cwnd))
        # HyStart (RFC 9406 section 4.2): leave slow start when the delay rises, or the ack train is long.
        rise = np.clip(self.delay_min_ms / 8.0, HYSTART_LOW_MS, HYSTART_HIGH_MS)
        late = seen.rtt_ms > self.delay_min_ms + rise
        long_train = seen.spread_ms > 0.5 * self.delay_min_ms  # Linux: half the delay when not paced
        leave = who & (self.cwnd >= HYSTART_LOW_WINDOW) & (late | long_train)
        # Found within the round's first acks, so the window has hardly grown by then.
        grown = np.where(leave, np.minimum(grown, self.cwnd + 8.0), grown)
        self.cwnd = np.where(who, grown, self.cwnd)
        self.ssthresh = np.where(leave, self.cwnd, self.ssthresh)

    def _avoid(self, who: np.ndarray, seen: Round) -> None:
        start = who & (self.epoch_ms < 0)
        below = self.cwnd < self.w_max
        gap = np.maximum(self.w_max - self.cwnd, 0.0)
        self.k_s = np.where(start, np.where(below, np.cbrt(gap / C_PER_S3), 0.0), self.k_s)  # RFC 9438 eq (2)
        self.origin = np.where(start, np.maximum(self.w_max, self.cwnd), self.origin)
        self.w_reno = np.where(start, self.cwnd, self.w_reno)
        self.epoch_ms = np.where(start, 0.0, self.epoch_ms)
        now_ms = np.where(who, self.epoch_ms + seen.rtt_ms, self.epoch_ms)
        t_s = (now_ms + self.delay_min_ms) / 1000.0 - self.k_s
        # The clock stands still from an upload's last packets to the next upload (Linux cubictcp_cwnd_event).
        self.epoch_ms = np.where(who & seen.window_limited, now_ms, self.epoch_ms)
        target = self.origin + C_PER_S3 * t_s**3  # RFC 9438 equation (1), at t + RTT
        target = np.clip(target, self.cwnd, 1.5 * self.cwnd)  # RFC 9438 section 4.4
        unknown = self.w_max <= 0
        target = np.where(unknown, np.maximum(target, (1 + UNKNOWN_GROWTH) * self.cwnd), target)
        self.w_reno = np.where(who, self.w_reno + RENO_GAIN * seen.delivered / self.cwnd, self.w_reno)
        self.cwnd = np.where(who, np.maximum(target, self.w_reno), self.cwnd)  # RFC 9438 section 4.3

    def _reduce(self, who: np.ndarray) -> None:
        shrinking = self.cwnd < self.w_max
        # Fast convergence, RFC 9438 section 4.7.
        peak = np.where(shrinking, 0.5 * (1.0 + BETA) * self.cwnd, self.cwnd)
        self.w_max = np.where(who, peak, self.w_max)
        self.ssthresh = np.where(
            who, np.maximum(BETA * self.cwnd, 2.0), self.ssthresh
        )  # RFC 9438 section 4.6
        self.cwnd = np.where(who, self.ssthresh, self.cwnd)
        self.epoch_ms = np.where(who, -1.0, self.epoch_ms)
