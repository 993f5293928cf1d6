"""What the kernel's acknowledgements tell of one transfer: how spread out it was sent, and how spread out it arrived.

A link that is slower than the sender stretches a train of packets to its own rate (Jain and Routhier 1986, "Packet
trains"), and the receiving kernel acknowledges it as it comes, whatever the server's program is doing. A transfer that
arrives as it was sent was held back by the sender: by its pacing, or by the round trips that a window takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MBIT_PER_BYTE = 8e-6
FIRST_BYTES = (
    1000  # acknowledged of it, so that small frames that the connection had to send as well do not count
)
SHARE = 0.9  # of it: the last segments wait for delayed acknowledgements
SEGMENT_BYTES = 1448  # at most of common Ethernet; the first one's own time passes before it is acknowledged


@dataclass(frozen=True)
class Reading:
    """One look at a connection.

    Attributes:
        time_s: when, on the clock.
        acked_bytes, segments: acknowledged and sent since before the transfer.
    """

    time_s: float
    acked_bytes: int
    segments: int


@dataclass(frozen=True)
class Transfer:
    """One transfer. It was looked at only so often, so there is a least and a most.

    Attributes:
        sent_bytes: payload.
        left_s: the clock's time at which its last byte had left, one round trip before it was acknowledged.
        sending_s: from the first segment to 90 % of them sent, at most.
        arriving_least_s, arriving_most_s: from the first acknowledgement to 90 % acknowledged.
        rate_mbps: at which it arrived.
        leaving_s: from the first acknowledgement to the last: what the transfer took beyond one round trip, lost
            segments sent again.
        again: segments that had to be sent again; waiting for them is no rate.
    """

    sent_bytes: int
    left_s: float
    sending_s: float
    arriving_least_s: float
    arriving_most_s: float
    rate_mbps: float
    leaving_s: float
    again: int = 0

    def stretched(self, spread: float, jitter_s: float) -> bool:
        """Whether it surely arrived more spread out than ``spread`` times as it was sent, beyond the path's jitter."""
        return self.arriving_least_s > spread * self.sending_s + jitter_s

    def least_mbps(self, jitter_s: float) -> float:
        """Rate that the link has at least, where round trips differ by ``jitter_s``."""
        return MBIT_PER_BYTE * (SHARE * self.sent_bytes - SEGMENT_BYTES) / (self.arriving_most_s + jitter_s)


def transfer(readings: Sequence[Reading], sent_bytes: int, again: int = 0) -> Transfer | None:
    """Make out a transfer.

    Args:
        readings: in the order of time, from before its first byte to after its last acknowledgement.
        sent_bytes: payload, more than `FIRST_BYTES`.
        again: segments that had to be sent again.

    Returns:
        None if the readings do not hold all of it.
    """
    last = _first(readings, lambda r: r.acked_bytes >= sent_bytes)
    if last is None:
        return None
    segments = readings[last].segments
    first = _first(readings, lambda r: r.acked_bytes >= FIRST_BYTES)
    most = _first(readings, lambda r: r.acked_bytes >= SHARE * sent_bytes)
    begun = _first(readings, lambda r: r.segments > 0)
    sent = _first(readings, lambda r: r.segments >= SHARE * segments)
    if first is None or most is None or begun is None or sent is None:
        return None

    def time_s(index: int) -> float:
        return readings[index].time_s

    def middle_s(index: int) -> float:
        """What was seen at a reading happened since the one before."""
        return (time_s(index) + time_s(index - 1)) / 2

    arrived = readings[most].acked_bytes
    if most == first:
        arriving_s = (time_s(most) - time_s(most - 1)) / 3  # two moments of one gap are a third of it apart
    else:
        arriving_s, arrived = middle_s(most) - time_s(first), arrived - readings[first].acked_bytes
    leaving_s = max(middle_s(last) - middle_s(first), (time_s(last) - time_s(last - 1)) / 3)
    return Transfer(
        sent_bytes,
        middle_s(begun) + leaving_s,
        time_s(sent) - time_s(begun - 1),
        max(time_s(most - 1) - time_s(first), 0.0),
        time_s(most) - time_s(first - 1),
        MBIT_PER_BYTE * arrived / arriving_s,
        leaving_s,
        again,
    )


def _first(readings: Sequence[Reading], true: Callable[[Reading], bool]) -> int | None:
    """Number of the first reading of which something is true; never of the very first, which is from before."""
    return next((i for i in range(1, len(readings)) if true(readings[i])), None)
