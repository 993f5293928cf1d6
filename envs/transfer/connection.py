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
INITIAL_WINDOW = 10.0  # RFC 6928
MIN_RTO_MS = 200.0  # Linux TCP_RTO_MIN; RFC 6298 (2.4) asks for 1 s
# The recordings' jitter is a Gaussian offset that changes over about 100 ms: uploads 100 ms apart
# have offsets correlated by 0.15-0.38, exp(-1) = 0.37 (uploads_kernel_tcp.csv, cells without loss).
JITTER_TIME_MS = 100.0
MIN_RTT_MS = (
    1.0  # the least smoothed RTT in the recordings is 3.9 ms at a mean of 30; delays are never negative
)


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
        jitter_ms: standard deviation of the slowly varying offset.
        loss: share of uplink packets lost, independently.
        rate: segments per ms of the narrowest hop.
    """

    rtt_ms: F64
    jitter_ms: F64
    loss: F64
    rate: F64


class Connection(Rows):
    """What every congestion control shares (M,); the controls keep their own rows beside it."""

    def __init__(self, path: Path) -> None:
        """Open warm connections: the handshake has measured one round trip."""
        size = path.rtt_ms.size
        self.cwnd = np.full(size, INITIAL_WINDOW)
        self.srtt_ms = path.rtt_ms.astype(float)
        self.now_ms = np.zeros(size)
        self.offset_ms = np.zeros(size)
        self.offset_at_ms = np.full(size, -1e9)
        # The upload under way.
        self.fresh = np.zeros(size)  # segments not sent yet
        self.lost = np.zeros(size)  # segments to be sent again
        self.elapsed_ms = np.zeros(size)
        self.rounds = np.zeros(size)
        self.first_rtt_ms = path.rtt_ms.astype(float)
        self.backoff = np.ones(size)

    def begin(self, segments: F64) -> None:
        """Start an upload of the given segments (M,)."""
        self.fresh = segments.astype(float).copy()
        for rows in (self.lost, self.elapsed_ms, self.rounds):
            rows[:] = 0.0
        self.backoff[:] = 1.0

    def draw_rtt(self, path: Path, at_ms: F64, rng: np.random.Generator) -> F64:
        """Round-trip time of a packet sent at the given time (M,), ms (Ornstein-Uhlenbeck offset)."""
        kept = np.exp(np.minimum(self.offset_at_ms - at_ms, 0.0) / JITTER_TIME_MS)
        fresh = path.jitter_ms * rng.standard_normal(at_ms.size)
        self.offset_ms = kept * self.offset_ms + np.sqrt(1.0 - kept * kept) * fresh
        self.offset_at_ms = np.maximum(self.offset_at_ms, at_ms)
        return np.maximum(path.rtt_ms + self.offset_ms, np.minimum(MIN_RTT_MS, path.rtt_ms))


@dataclass
class Round:
    """What one round of packets did (M,): passed to the congestion control."""

    pace: F64  # segments per ms the sender allowed itself
    rtt_ms: F64  # of the first packet
    end_rtt_ms: F64  # of the last packet
    sent: F64
    delivered: F64
    lost: F64
    new_loss: npt.NDArray[np.bool_]  # a segment sent for the first time was lost
    first_loss: F64  # place of the first loss in the flight, 0 to 1
    resent: F64
    fresh_sent: F64
    spread_ms: F64  # from the first to the last packet at the path's exit
    last_flight: npt.NDArray[np.bool_]
    timeout: npt.NDArray[np.bool_]
    window_limited: npt.NDArray[np.bool_]
    waited_ms: F64  # for a timer, because nothing later proved the loss
    duration_ms: F64
