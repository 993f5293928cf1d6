"""One round trip to a probe endpoint, over a connection of its own: the request path never waits for it."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from typing import Literal

from ...envs.errors import InputError
from ..clock import Clock, SystemClock
from .failure import ProbeFailure
from .tcp_info import TcpInfo, read_tcp_info

Method = Literal["echo", "connect", "auto"]
_MESSAGE = struct.Struct("!4sQ")
_MAGIC = b"CPe1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, no time to linger
_LONGEST_DOUBLING = 16


@dataclass(frozen=True)
class Answer:
    """One answered probe.

    Attributes:
        rtt_ms: round trip as the kernel timed it, without the wait of this process for a processor; as the application
            saw it where the kernel does not say.
        tcp: what the kernel knows of the connection, None where it does not say.
        segments_sent: data segments that this probe took, retransmissions included.
        segments_retransmitted: how many of them were sent again.
    """

    rtt_ms: float
    tcp: TcpInfo | None
    segments_sent: int
    segments_retransmitted: int


class EchoProbe:
    """Probes one endpoint; not for use by several threads at once.

    ``echo`` keeps one connection and sends 12 bytes that an echo server returns. ``connect`` times a new
    connection each time and works against any TCP server, which may log these empty connections; it sees a lost
    SYN as a lost probe. ``auto`` takes ``echo`` if the first connection that stands echoes, else ``connect``.

    After a failure the connection is given up at once; attempts to make a new one follow at doubling distances up to
    ``most_backoff_s``, and every probe in between is a failure too.

    Args:
        host: name or address.
        port: TCP port.
        timeout_s: a probe that takes longer is lost.
        method: see above.
        backoff_s: wait after the second failed connection in a row (the first is tried again at the next probe).
        most_backoff_s: longest wait between attempts.
        clock: for the backoff.
    """

    def __init__(
        self, host: str, port: int, timeout_s: float = 1.0, method: Method = "echo",
        backoff_s: float = 1.0, most_backoff_s: float = 5.0, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """Nothing is sent yet."""
        if not host or not 1 <= port <= 65535:
            raise InputError(f"a probe needs a host and a port between 1 and 65535, got '{host}' and {port}")
        if not (timeout_s > 0 and 0 <= backoff_s <= most_backoff_s):
            raise InputError(
                f"a probe needs timeout_s > 0 and 0 <= backoff_s <= most_backoff_s, got {timeout_s}, {backoff_s}, "
                f"{most_backoff_s}"
            )
        if method not in ("echo", "connect", "auto"):
            raise InputError(f"probe method must be echo, connect or auto, got '{method}'")
        self.host, self.port, self.method = host, port, method
        self._timeout_s, self._backoff_s, self._most_backoff_s = timeout_s, backoff_s, most_backoff_s
        self._clock = clock or SystemClock()
        self._connection: socket.socket | None = None
        self._seen: TcpInfo | None = None  # counters of this connection at the last probe
        self._number = 0
        self._failed_connects = 0
        self._not_before_s = float("-inf")

    def exchange(self) -> Answer:
        """Probe once, for at most about the timeout.

        Raises:
            ProbeFailure: no answer in time, refused, closed, or a wrong answer; the message says which.
        """
        deadline = time.perf_counter() + self._timeout_s
        if self.method == "connect":
            return self._time_connect(deadline)
        if self._connection is None:
            self._connection, _ = self._connect(deadline)
            self._seen = None
        try:
            answer = self._echo(self._connection, deadline)
        except (OSError, ProbeFailure) as error:
            with contextlib.suppress(OSError):  # nothing of a dead connection stays in the kernel
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.close()
            if self.method == "auto":
                self.method = "connect"  # it stands but does not echo: not our server
            raise ProbeFailure(f"{self._name}: {_reason(error, self._timeout_s)}") from error
        self.method = "echo"
        return answer

    def close(self) -> None:
        """Give up the connection; the next probe makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def _name(self) -> str:
        return f"{self.host}:{self.port}"

    def _connect(self, deadline: float) -> tuple[socket.socket, float]:
        """A new connection and the round trip of its handshake, ms."""
        if self._clock.monotonic_s() < self._not_before_s:
            raise ProbeFailure(f"{self._name}: not connected, waiting before the next attempt")
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )[0]
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(_left_s(deadline))
                start = time.perf_counter()
                connection.connect(address)
                rtt_ms = 1000 * (time.perf_counter() - start)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            self._back_off()
            raise ProbeFailure(f"{self._name}: {_reason(error, self._timeout_s)}") from error
        self._failed_connects, self._not_before_s = 0, float("-inf")
        return connection, rtt_ms

    def _back_off(self) -> None:
        self._failed_connects += 1
        if self._failed_connects > 1:
            doublings = min(self._failed_connects - 2, _LONGEST_DOUBLING)
            wait_s = min(self._backoff_s * 2**doublings, self._most_backoff_s)
            self._not_before_s = self._clock.monotonic_s() + wait_s

    def _time_connect(self, deadline: float) -> Answer:
        connection, rtt_ms = self._connect(deadline)
        try:
            info = read_tcp_info(connection)
        except OSError:
            info = None  # the server closed it at once, which is its right; the handshake was timed
        finally:
            connection.close()
        again = 0 if info is None else info.total_retrans
        return Answer(rtt_ms, info, 1 + again, again)

    def _echo(self, connection: socket.socket, deadline: float) -> Answer:
        self._number += 1
        message = _MESSAGE.pack(_MAGIC, self._number)
        connection.settimeout(_left_s(deadline))
        start = time.perf_counter()
        connection.sendall(message)
        heard = b""
        while len(heard) < len(message):
            connection.settimeout(_left_s(deadline))
            piece = connection.recv(len(message) - len(heard))
            if not piece:
                raise ProbeFailure("the server closed the connection")
            heard += piece
        waited_ms = 1000 * (time.perf_counter() - start)
        if heard != message:
            raise ProbeFailure("not an echo server: it answered something else; use the method 'connect'")
        before, now = self._seen, read_tcp_info(connection)
        self._seen = now
        sent, again = _segments(before, now)
        return Answer(_rtt_ms(before, now, sent, waited_ms), now, sent, again)


def _rtt_ms(before: TcpInfo | None, now: TcpInfo | None, sent: int, waited_ms: float) -> float:
    """The kernel's sample of one probe, out of its smoothed round-trip time; what the application waited without one.

    The probe is the only segment on its connection, so between two readings one sample m came in and made the smoothed
    time (7 old + m) / 8 (RFC 6298 (2.3), alpha 1/8). Readings are whole microseconds, so m is right to 15 of them.
    """
    if before is None or now is None or sent != 1:
        return waited_ms
    sample_ms = (8 * now.rtt_us - 7 * before.rtt_us) / 1000.0
    return sample_ms if 0.0 < sample_ms <= waited_ms else waited_ms


def _segments(before: TcpInfo | None, now: TcpInfo | None) -> tuple[int, int]:
    """Segments sent and sent again between two readings; before the first reading none were."""
    if now is None:
        return 1, 0
    again = now.total_retrans - (0 if before is None else before.total_retrans)
    if now.data_segs_out is None:
        return 1 + again, again
    sent = now.data_segs_out - (0 if before is None else before.data_segs_out or 0)
    return max(sent, again, 1), again


def _left_s(deadline: float) -> float:
    left = deadline - time.perf_counter()
    if left <= 0:
        raise TimeoutError
    return left


def _reason(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ProbeFailure):
        return str(error)
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
