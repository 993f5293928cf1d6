"""The kernel's settings of TCP that decide how long an upload takes."""

from __future__ import annotations

import socket
from pathlib import Path

from ...envs.errors import InputError

CONNECT_S = 3.0
_NAME_BYTES = 16  # TCP_CA_NAME_MAX
_IPV4 = "proc/sys/net/ipv4"


def used_by_kernel(root: Path | str = "/") -> str:
    """Congestion control of new connections; "unknown" where the system does not say."""
    return sysctl("tcp_congestion_control", root) or "unknown"


def used_by(connection: socket.socket) -> str:
    """Congestion control of a connected socket: what its route or the system gave it, whatever it had asked for."""
    return (
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES).rstrip(b"\0").decode()
    )


def used_towards(host: str, port: int) -> str:
    """Congestion control that a new connection there gets; a route may have its own.

    Raises:
        InputError: nobody answers there.
    """
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S) as connection:
            return used_by(connection)
    except OSError as error:
        raise InputError(f"no connection to {host}:{port}: {error}") from error


def available(root: Path | str = "/") -> list[str]:
    """Congestion controls that the kernel has loaded."""
    return (sysctl("tcp_available_congestion_control", root) or "").split()


def sysctl(name: str, root: Path | str = "/") -> str | None:
    """A setting below net.ipv4; None where there is none."""
    try:
        return (Path(root) / _IPV4 / name).read_text().strip()
    except OSError:
        return None
