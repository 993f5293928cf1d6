"""What Linux knows of a TCP connection (``getsockopt(TCP_INFO)``), without privileges.

The kernel's ``struct tcp_info`` only ever grew at its end, so a field is there if the answer is long enough for it;
what an older kernel does not report is None, never zero. Layout: linux/include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass

from ...envs.errors import InputError

_ASKED_BYTES = 512
_LEAST_BYTES = 104  # up to total_retrans, in every kernel since 2.6
_APP_LIMITED = 7  # byte whose lowest bit tells that delivery_rate was limited by the sender
_TCP_CC_INFO = 26  # linux/include/uapi/linux/tcp.h; the socket module does not name it
# Bandwidth in two halves, least RTT, two gains (linux/include/uapi/linux/inet_diag.h, tcp_bbr_info).
_BBR = struct.Struct("=5I")
_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")


@dataclass(frozen=True)
class TcpInfo:
    """One reading. Times in microseconds as the kernel gives them; None where the kernel is too old.

    Attributes:
        rtt_us: smoothed round-trip time.
        rttvar_us: its smoothed mean deviation.
        total_retrans: segments retransmitted since the connection began.
        data_segs_out: segments with data sent, retransmitted ones included (Linux 4.6).
        min_rtt_us: least round-trip time of the kernel's window (Linux 4.6).
        delivery_rate_bytes_per_s: latest rate of delivery to the other end (Linux 4.9).
        app_limited: whether that rate was limited by too little to send rather than by the path.
        bytes_acked: acknowledged by the other end (Linux 4.1).
        bytes_sent: sent, retransmissions included (Linux 4.19).
        bytes_retrans: retransmitted (Linux 4.19).
        dsack_dups: segments that the other end reports as sent again for nothing (Linux 4.19).
    """

    rtt_us: int
    rttvar_us: int
    total_retrans: int
    snd_cwnd: int
    data_segs_out: int | None
    min_rtt_us: int | None
    delivery_rate_bytes_per_s: int | None
    app_limited: bool | None
    bytes_acked: int | None
    bytes_sent: int | None
    bytes_retrans: int | None
    dsack_dups: int | None = None


def parse_tcp_info(data: bytes) -> TcpInfo:
    """Read the fields at their offsets, as far as ``data`` reaches.

    Raises:
        InputError: fewer bytes than the oldest form of the structure.
    """
    if len(data) < _LEAST_BYTES:
        raise InputError(
            f"TCP_INFO has {len(data)} bytes, expected at least {_LEAST_BYTES}: not an answer of a Linux kernel. "
            "Use the connect probe, which needs no TCP_INFO."
        )

    def u32(offset: int) -> int | None:
        return _U32.unpack_from(data, offset)[0] if len(data) >= offset + 4 else None

    def u64(offset: int) -> int | None:
        return _U64.unpack_from(data, offset)[0] if len(data) >= offset + 8 else None

    rate = u64(160)
    return TcpInfo(
        rtt_us=_U32.unpack_from(data, 68)[0],
        rttvar_us=_U32.unpack_from(data, 72)[0],
        total_retrans=_U32.unpack_from(data, 100)[0],
        snd_cwnd=_U32.unpack_from(data, 80)[0],
        data_segs_out=u32(156),
        min_rtt_us=u32(148),
        delivery_rate_bytes_per_s=rate,
        app_limited=None if rate is None else bool(data[_APP_LIMITED] & 1),
        bytes_acked=u64(120),
        bytes_sent=u64(200),
        bytes_retrans=u64(208),
        dsack_dups=u32(216),
    )


def read_tcp_info(connection: socket.socket) -> TcpInfo | None:
    """Ask the kernel about a connection; None on a system that has no such question.

    Raises:
        OSError: the connection is gone.
    """
    if not sys.platform.startswith("linux"):
        return None
    return parse_tcp_info(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ASKED_BYTES))


@dataclass(frozen=True)
class BbrInfo:
    """BBR's own estimates: bandwidth in bytes of payload per second, and the least round trip of its ten seconds."""

    bandwidth_bytes_per_s: int
    min_rtt_us: int


def read_bbr_info(connection: socket.socket) -> BbrInfo | None:
    """Ask BBR for its estimates (``getsockopt(TCP_CC_INFO)``, struct tcp_bbr_info); None under another control.

    Raises:
        OSError: the connection is gone.
    """
    if not sys.platform.startswith("linux"):
        return None
    data = connection.getsockopt(socket.IPPROTO_TCP, _TCP_CC_INFO, _BBR.size)
    if len(data) < _BBR.size:
        return None
    low, high, min_rtt_us, _, _ = _BBR.unpack(data)
    return BbrInfo(low | high << 32, min_rtt_us)
