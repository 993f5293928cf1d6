"""Connections that a library of this process holds and hides, as gRPC does: found by their other end, and only read.

Nothing is done to them: the kernel is asked about a descriptor that stays the library's (`TCP_INFO`). It is not
duplicated, because a copy would keep a connection open that the library has closed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import sys
import weakref
from pathlib import Path
from typing import NamedTuple

_DESCRIPTORS = Path("/proc/self/fd")
_ESTABLISHED = 1
# Of `struct tcp_info` (linux/include/uapi/linux/tcp.h): state, rtt, total_retrans, bytes_acked, data_segs_out,
# bytes_sent, bytes_retrans, dsack_dups; all of them since Linux 4.19.
_FIELDS = struct.Struct("=B67xI28xI16xQ28xI40xQQI")


class Progress(NamedTuple):
    """How far a connection is.

    Attributes:
        acked_bytes: acknowledged by the other end.
        segments: data segments sent, again or not; ``again`` of them again, ``needless`` of those for nothing.
        waiting_bytes: sent and not acknowledged so far.
        rtt_s: smoothed round-trip time.
    """

    acked_bytes: int
    segments: int
    again: int
    needless: int
    waiting_bytes: int
    rtt_s: float


class OwnConnection:
    """An established connection of this process."""

    def __init__(self, descriptor: int) -> None:
        """Note which file the descriptor is.

        Raises:
            OSError: it is gone, or no socket.
        """
        self._descriptor, self._inode = descriptor, os.fstat(descriptor).st_ino
        lent = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
        weakref.finalize(self, lent.detach)  # never closed by us
        self._ask = lent.getsockopt

    def is_open(self) -> bool:
        """Whether it is still the same connection; a number may have been given to another file meanwhile."""
        try:
            return os.fstat(self._descriptor).st_ino == self._inode and self.progress() is not None
        except OSError:
            return False

    def progress(self) -> Progress | None:
        """How far it is now; None once it is closed. Takes two microseconds and never waits."""
        try:
            told = self._ask(socket.IPPROTO_TCP, socket.TCP_INFO, _FIELDS.size)
        except OSError:
            return None
        if len(told) < _FIELDS.size:
            return None
        state, rtt_us, again, acked, segments, sent, sent_again, needless = _FIELDS.unpack(told)
        if state != _ESTABLISHED:
            return None
        return Progress(acked, segments, again, needless, max(sent - sent_again - acked, 0), rtt_us / 1e6)


def find_connection(address: str) -> OwnConnection | None:
    """The newest connection of this process to an address; None if there is none or the system does not tell.

    May wait for the name server, so not for the thread that serves frames.

    Args:
        address: ``HOST:PORT``, as given to the library.
    """
    if not sys.platform.startswith("linux"):
        return None
    host, _, port = address.rpartition(":")
    try:
        ends = {_plain(found[4][0]) for found in socket.getaddrinfo(host.strip("[]"), None)}
        numbers = sorted((int(name) for name in os.listdir(_DESCRIPTORS)), reverse=True)
        wanted = int(port)
    except (OSError, ValueError):
        return None
    for number in numbers:
        end = _other_end(number)
        if end is not None and end[1] == wanted and _plain(end[0]) in ends:
            with contextlib.suppress(OSError):  # closed just now
                connection = OwnConnection(number)
                if connection.progress() is not None:
                    return connection
    return None


def _other_end(number: int) -> tuple[str, int] | None:
    """Address and port that a descriptor is connected to, if it is a TCP socket."""
    try:
        if not os.readlink(_DESCRIPTORS / str(number)).startswith("socket:"):
            return None
        with socket.socket(fileno=os.dup(number)) as copy:
            if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.type != socket.SOCK_STREAM:
                return None
            host, port = copy.getpeername()[:2]
            return host, port
    except (OSError, ValueError):  # closed just now, or not connected
        return None


def _plain(host: object) -> str:
    """An address in one form: IPv4 also where it came inside IPv6, as it does from a socket that can do both."""
    address = ipaddress.ip_address(str(host).partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None)
    return str(inner or address)
