"""The state of many TCP connections at once, and how the path treats one round of packets.

Units inside this room: time in ms, rates in segments per ms, windows in segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
R = TypeVar("R", bound="Rows")

MSS_BYTES = 1448  # 1500 byte MTU less IP, TCP and timestamp option
WIRE_BYTES = 1500
ACK_SEGMENTS = 2.0  # one delayed ack, RFC 1122 section 4.2.3.2
INITIAL_WINDOW = 10.0  # RFC 6928
MIN_RTO_MS = 200.0  # Linux TCP_RTO_MIN; RFC 6298 (2.4) asks for 1 s
# The recordings' jitter is a Gaussian offset that changes over about 100 ms: uploads 100 ms apart
# have offsets correlated by 0.15-0.38, exp(-1) = 0.37 (uploads_kernel_tcp.csv, cells without loss).
JITTER_TIME_MS = 100.0
# The least round trip: what the emulated link and the processes at its ends take where the delay is zero
# (measured on the test bed, 0.27 ms). The environment's paths never come near it.
MIN_RTT_MS = 0.3


class Rows:
    """Named arrays of one length that can be gathered and scattered together."""

    def take(self: R, keep: npt.NDArray | slice) -> R:
        """Return the rows chosen by a mask or index as a new record."""
        other = object.__new__(type(self))
        for name, values in vars(self).items():
            setattr(other, name, values[keep])
        return other

    def put(self, where: npt.NDArray, other: Rows) -> None:
        """Write another record's rows to the given places."""
        for name, values in vars(self).items():
            values[where] = getattr(other, name)


@dataclass
class Path(Rows):
    """What the path does to each connection (M,).

    Attributes:
        rtt_ms: mean round-trip time.
        jitter_ms: standard deviation of the slowly varying offset, of which each way has half.
        loss: share of uplink packets lost, independently.
        rate: segments per ms of the narrowest hop.
    """

    rtt_ms: F64
    jitter_ms: F64
    loss: F64
    rate: F64


class Connection(Rows):
    """What every congestion control shares (M,); the controls keep their own rows beside it."""

    version0 = False  # simulate as the tables of environment version 0 were made (`version0.py`)

    def __init__(self, path: Path) -> None:
        """Open warm connections: the handshake has measured one round trip."""
        size = path.rtt_ms.size
        self.cwnd = np.full(size, INITIAL_WINDOW)
        self.srtt_ms = path.rtt_ms.astype(float)
        self.now_ms = np.zeros(size)
        self.offset = np.zeros(size)  # of the delay, in standard deviations, at the latest time drawn
        self.offset_sent = np.zeros(size)  # when the first packet of the flight left
        self.offset_back = np.zeros(size)  # when it turned
        self.offset_at_ms = np.full(size, -1e9)
        # The upload under way.
        self.fresh = np.zeros(size)  # segments not sent yet
        self.lost = np.zeros(size)  # segments to be sent again
        self.elapsed_ms = np.zeros(size)
        self.rounds = np.zeros(size)
        self.first_rtt_ms = path.rtt_ms.astype(float)
        self.backoff = np.ones(size)
        self.backlog_ms = np.zeros(size)  # how long the next packet waits behind those of the round before
        self.stalled = np.ones(size, dtype=bool)  # the sender had to wait for acks, or for something to send

    def begin(self, segments: F64) -> None:
        """Start an upload of the given segments (M,)."""
        self.fresh = segments.astype(float).copy()
        for rows in (self.lost, self.elapsed_ms, self.rounds, self.backlog_ms):
            rows[:] = 0.0
        self.backoff[:] = 1.0
        self.stalled[:] = True

    def draw_first_rtt(self, path: Path, rng: np.random.Generator) -> F64:
        """Round-trip time of a packet sent now (M,), ms."""
        self.offset_sent = self._later_offset(self.now_ms, rng)
        self.offset_back = self._later_offset(self.now_ms + 0.5 * path.rtt_ms, rng)
        return _rtt(path, self.offset_sent, self.offset_back)

    def draw_last_rtt(self, path: Path, spread_ms: F64, rng: np.random.Generator) -> F64:
        """Round-trip time of a packet that follows the one of `draw_first_rtt` (M,), ms."""
        way_ms = 0.5 * path.rtt_ms
        # Before the first one has turned, the offset lies between two that are known.
        before = np.exp(-np.minimum(spread_ms, way_ms) / JITTER_TIME_MS)
        after = np.exp(-np.maximum(way_ms - spread_ms, 0.0) / JITTER_TIME_MS)
        both = np.maximum(1.0 - (before * after) ** 2, 1e-12)
        mean = before * (1.0 - after**2) * self.offset_sent + after * (1.0 - before**2) * self.offset_back
        sd = np.sqrt((1.0 - before**2) * (1.0 - after**2) / both)
        between = mean / both + sd * rng.standard_normal(spread_ms.size)
        sent = np.where(
            spread_ms < way_ms, between, self._later_offset(self.now_ms + spread_ms, rng, spread_ms >= way_ms)
        )
        back = self._later_offset(self.now_ms + spread_ms + way_ms, rng)
        return _rtt(path, sent, back)

    def _later_offset(
        self, at_ms: F64, rng: np.random.Generator, who: npt.NDArray[np.bool_] | bool = True
    ) -> F64:
        """Offset at a time not before the last one asked for, drawn for those rows only (M,) (Ornstein-Uhlenbeck)."""
        kept = np.exp(np.minimum(self.offset_at_ms - at_ms, 0.0) / JITTER_TIME_MS)
        drawn = kept * self.offset + np.sqrt(1.0 - kept * kept) * rng.standard_normal(at_ms.size)
        self.offset = np.where(who, drawn, self.offset)
        self.offset_at_ms = np.where(who, np.maximum(self.offset_at_ms, at_ms), self.offset_at_ms)
        return self.offset


def _rtt(path: Path, sent: F64, back: F64) -> F64:
    """Round-trip time from the offsets that the two ways met (M,), ms; each has half of it."""
    rtt_ms = path.rtt_ms + 0.5 * path.jitter_ms * (sent + back)
    return np.maximum(rtt_ms, least_rtt_ms(path))


def least_rtt_ms(path: Path) -> F64:
    """Round-trip time where the delay is nothing (M,), ms: the ends, and the packets of one ack at the path's rate."""
    return np.minimum(MIN_RTT_MS + ACK_SEGMENTS / path.rate, path.rtt_ms)


@dataclass
class Round:
    """What one round of packets did (M,): passed to the congestion control."""

    pace: F64  # segments per ms the sender allowed itself
    rtt_ms: F64  # of the first packet
    end_rtt_ms: F64  # of the last packet
    least_rtt_ms: F64  # of any packet
    fall_ms: F64  # greatest fall of the round-trip time from one ack to a later one
    quantum: F64  # segments that leave in one piece
    owed: F64  # segments that left sooner than the pace allows, because the sender had waited
    sent: F64
    delivered: F64
    lost: F64
    new_loss: npt.NDArray[np.bool_]  # a segment sent for the first time was lost
    first_loss: F64  # place of the first loss in the flight, 0 to 1
    last_loss: F64  # place of the last one
    resent: F64
    fresh_sent: F64
    leaving_ms: F64  # from the first to the last packet at the sender
    spread_ms: F64  # the same at the path's exit
    last_flight: npt.NDArray[np.bool_]
    timeout: npt.NDArray[np.bool_]
    window_limited: npt.NDArray[np.bool_]
    waited_ms: F64  # for a timer, because nothing later proved the loss
    duration_ms: F64
