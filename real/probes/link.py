"""Everything probed about one link, with the simulator's features and their meaning."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...envs.probe_filter import LossFilter, RttFilter
from ..clock import Clock
from .echo_probe import Answer
from .failure import ProbeFailure
from .loss import LossWindow
from .tcp_info import TcpInfo
from .uplink import UplinkEstimator, UplinkState

MOST_DOUBTFUL = 2  # retransmitted probes in a row whose time is not taken for an RTT


class Exchange(Protocol):
    """What makes one round trip: `EchoProbe`, or a replay."""

    def exchange(self) -> Answer:
        """One answered probe, or ProbeFailure."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True)
class LinkState:
    """A link as last probed; it never changes, ages follow from the time of reading.

    Attributes:
        rtt_ms, rtt_last_ms, rtt_deviation_ms: None until the first answer.
        loss_pct: smoothed share of lost packets; a probe without answer counts as all lost.
        uplink: the rate and what it rests on.
        answered_s: clock's monotonic time of the last answer; None if there was none.
        probes: probes made.
        lost: probes without an answer.
        tcp: the kernel's view at the last answer.
        error: why the newest probe failed; None if it was answered.
    """

    rtt_ms: np.float32 | None
    rtt_last_ms: np.float32 | None
    rtt_deviation_ms: np.float32 | None
    loss_pct: np.float32
    uplink: UplinkState
    answered_s: float | None
    probes: int
    lost: int
    tcp: TcpInfo | None
    error: str | None

    def age_s(self, now_s: float) -> float:
        """Seconds since the last answer; infinite if there was none."""
        return math.inf if self.answered_s is None else max(0.0, now_s - self.answered_s)

    def features(self, link: str, now_s: float) -> dict[str, float]:
        """The observation's features of this link by name, in its units, without those that are unknown.

        The age is in whole seconds, as the simulator counts it; infinite before the first answer (the
        encoder clips it), so that a link that never answered looks as old as can be.
        """
        age_s = self.age_s(now_s)
        known = {
            "rtt_ms": self.rtt_ms,
            "rtt_last_ms": self.rtt_last_ms,
            "rtt_deviation_ms": self.rtt_deviation_ms,
            "loss_pct": self.loss_pct if self.probes else None,
            "uplink_mbps": self.uplink.rate_mbps,
            "probe_age_s": age_s if math.isinf(age_s) else float(math.floor(age_s)),
        }
        return {f"{link}_{name}": float(value) for name, value in known.items() if value is not None}


class LinkProbe:
    """Probes a link through an `Exchange` and keeps the smoothed values.

    Args:
        exchange: makes the round trips.
        clock: stamps them.
        uplink: estimator that the runtime feeds with its transfers.
        loss: window of the loss estimate.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        uplink: UplinkEstimator | None = None,
        loss: LossWindow | None = None,
    ) -> None:
        """Nothing probed yet."""
        self.uplink = uplink or UplinkEstimator()
        self._exchange, self._clock = exchange, clock
        self._window, self._loss, self._rtt = loss or LossWindow(), LossFilter(), RttFilter()
        self._segments: deque[tuple[int, int]] = deque(maxlen=4096)
        self._answered_s: float | None = None
        self._probes = self._lost = self._doubtful = 0
        self._tcp: TcpInfo | None = None
        self._state = self._shown(None)

    @property
    def state(self) -> LinkState:
        """As of the newest probe; reading it never waits."""
        return self._state

    def note_segments(self, sent: int, again: int) -> None:
        """Report segments of real transfers, for the loss estimate; from any thread, never waits."""
        self._segments.append((sent, again))

    def probe(self) -> LinkState:
        """Probe once and take the outcome in; a lost probe is an outcome, not an error."""
        self._probes += 1
        error = None
        try:
            self._take(self._exchange.exchange())
        except ProbeFailure as failure:
            self._lost += 1
            self._loss.update(1.0)
            error = str(failure)
        self._state = self._shown(error)
        return self._state

    def close(self) -> None:
        """Let go of the connection."""
        self._exchange.close()

    def _take(self, answer: Answer) -> None:
        now_s = self._clock.monotonic_s()
        self._take_rtt(answer)
        self._window.add(now_s, answer.segments_sent, answer.segments_retransmitted)
        while self._segments:
            self._window.add(now_s, *self._segments.popleft())
        share = self._window.share(now_s)
        if share is not None:
            self._loss.update(share)
        self._answered_s, self._tcp = now_s, answer.tcp

    def _take_rtt(self, answer: Answer) -> None:
        """Leave out the time of a retransmitted probe: it holds a timer, not an RTT (Karn's algorithm, RFC 6298).

        Several in a row mean that the RTT rose beyond the kernel's timers, so then it is taken.
        """
        self._doubtful = self._doubtful + 1 if answer.segments_retransmitted else 0
        if not 0 < self._doubtful <= MOST_DOUBTFUL:
            self._rtt.answered(answer.rtt_ms)

    def _shown(self, error: str | None) -> LinkState:
        rtt = self._rtt
        uplink = self.uplink.fold(0.0 if rtt.deviation_ms is None else float(rtt.deviation_ms))
        return LinkState(
            rtt.smooth_ms, rtt.last_ms, rtt.deviation_ms, self._loss.loss_pct, uplink, self._answered_s,
            self._probes, self._lost, self._tcp, error,
        )  # fmt: skip
