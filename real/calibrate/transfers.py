"""Timed uploads to a link's echo server: what the link's rate is, and how many segments it loses."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass

from ...envs.errors import InputError
from ..probes.echo import upload_header
from ..probes.tcp_info import TcpInfo, read_tcp_info
from .congestion import used_by

SAMPLE_S = 0.004  # between two looks at the kernel's delivery rate
_BLOCK = bytes(1 << 18)


@dataclass(frozen=True)
class Transfer:
    """One upload.

    Attributes:
        sent_bytes: payload.
        took_s: until the echo server said that all had come.
        rates_mbps: the kernel's delivery rates while it was the path that limited them.
        segments, lost: data segments sent, and sent again with a cause (reported duplicates are not losses). Below zero
            where duplicates of the transfer before were reported after its end; a sum over transfers is right.
    """

    sent_bytes: int
    took_s: float
    rates_mbps: tuple[float, ...]
    segments: int
    lost: int


class Uploader:
    """A connection to an echo server for timed uploads.

    Args:
        host, port: of the echo server.
        timeout_s: an upload that stands still for so long is given up.
        congestion_control: the kernel's name for it; None: the system's.

    Raises:
        InputError: nobody answers there, or the kernel lacks the congestion control.
    """

    def __init__(
        self, host: str, port: int, timeout_s: float = 20.0, congestion_control: str | None = None
    ) -> None:
        """Connect."""
        try:
            self._connection = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise InputError(
                f"No echo server answers at {host}:{port} ({error}). Start one there: "
                f"python -m carbonpilot.real.probes.echo --host 0.0.0.0 --port {port}"
            ) from error
        self._where = f"{host}:{port}"
        self._seen: TcpInfo | None = None  # at the end of the last upload; what came since belongs to it
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if congestion_control is not None:
            try:
                name = congestion_control.encode()
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            except OSError as error:
                self.close()
                raise InputError(
                    f"The kernel has no congestion control '{congestion_control}': {error}"
                ) from error

    @property
    def congestion_control(self) -> str:
        """What it really uses; a route may overrule what was asked for."""
        return used_by(self._connection)

    def upload(self, n_bytes: int) -> Transfer:
        """Send that many bytes and wait until they have come.

        Raises:
            InputError: the other end is no echo server, or one that knows no uploads.
        """
        header = upload_header(n_bytes)
        before = self._seen or self._info()
        rates: list[float] = []
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(rates, stop), daemon=True)
        start_s = time.perf_counter()
        watcher.start()
        try:
            self._connection.sendall(header)
            for first in range(0, n_bytes, len(_BLOCK)):
                self._connection.sendall(_BLOCK[: min(len(_BLOCK), n_bytes - first)])
            answer = self._connection.recv(len(header), socket.MSG_WAITALL)
        except OSError as error:
            raise InputError(f"An upload of {n_bytes} bytes to {self._where} broke off: {error}.") from error
        finally:
            took_s = time.perf_counter() - start_s
            stop.set()
            watcher.join()
        if answer != header:
            raise InputError(
                f"{self._where} does not take uploads: it answered {answer[:12]!r}. Run the echo server of this "
                "version there (python -m carbonpilot.real.probes.echo)."
            )
        after = self._seen = self._info()
        spurious = (after.dsack_dups or 0) - (before.dsack_dups or 0)
        return Transfer(
            n_bytes,
            took_s,
            tuple(rates),
            (after.data_segs_out or 0) - (before.data_segs_out or 0),
            after.total_retrans - before.total_retrans - spurious,
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _info(self) -> TcpInfo:
        info = read_tcp_info(self._connection)
        if info is None or info.data_segs_out is None:
            raise InputError(
                "This kernel says too little of its TCP connections (TCP_INFO): Linux 4.6 or newer is needed."
            )
        return info

    def _watch(self, rates: list[float], stop: threading.Event) -> None:
        last: int | None = None
        while not stop.wait(SAMPLE_S):
            info = read_tcp_info(self._connection)
            if info is None or info.app_limited or not info.delivery_rate_bytes_per_s:
                continue
            if info.delivery_rate_bytes_per_s != last:
                last = info.delivery_rate_bytes_per_s
                rates.append(last * 8e-6)
