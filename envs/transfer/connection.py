"""The state of many TCP connections at once, and how the path treats one round of packets.

Units inside this room: time in ms, rates in segments per ms, windows in segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

MSS_BYTES = 1448  # 1500 byte MTU less IP, TCP and timestamp option
WIRE_BYTES = 1500
INITIAL_WINDOW = 10.0  # RFC 6928
MIN_RTO_MS = 200.0  # Linux TCP_RTO_MIN; RFC 6298 (2.4) asks for 1 s
JITTER_HOLD_MS = 100.0  # the recordings' jitter is an offset that changes about every 100 ms (HARDWARE.md 5)
MIN_RTT_SHARE = 0.2  # jitter never shortens a round trip below this share of its mean


class Rows:
    """Named arrays of one length that can be gathered and scattered together."""

    def take(self, keep: npt.NDArray) -> Rows:
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
        self.jitter_slot = np.full(size, -1.0)
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

    def draw_rtt(self, path: Path, rng: np.random.Generator) -> F64:
        """Round-trip time of this round (M,), ms; the offset is redrawn when its 100 ms are over."""
        slot = np.floor(self.now_ms / JITTER_HOLD_MS)
        stale = np.flatnonzero(slot != self.jitter_slot)
        self.offset_ms[stale] = path.jitter_ms[stale] * rng.standard_normal(stale.size)
        self.jitter_slot = slot
        return np.maximum(path.rtt_ms + self.offset_ms, MIN_RTT_SHARE * path.rtt_ms)


@dataclass
class Round:
    """What one round of packets did (M,): passed to the congestion control."""

    rtt_ms: F64
    sent: F64
    delivered: F64
    lost: F64
    new_loss: npt.NDArray[np.bool_]  # a segment sent for the first time was lost
    first_loss: F64  # place of the first loss in the flight, 0 to 1
    fresh_sent: F64
    spread_ms: F64  # from the first to the last packet at the path's exit
    last_flight: npt.NDArray[np.bool_]
    timeout: npt.NDArray[np.bool_]
    window_limited: npt.NDArray[np.bool_]
    duration_ms: F64
