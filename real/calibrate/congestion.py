"""The kernel's settings of TCP that decide how long an upload takes."""

from __future__ import annotations

from pathlib import Path

_IPV4 = "proc/sys/net/ipv4"


def used_by_kernel(root: Path | str = "/") -> str:
    """Congestion control of new connections; "unknown" where the system does not say."""
    return sysctl("tcp_congestion_control", root) or "unknown"


def available(root: Path | str = "/") -> list[str]:
    """Congestion controls that the kernel has loaded."""
    return (sysctl("tcp_available_congestion_control", root) or "").split()


def sysctl(name: str, root: Path | str = "/") -> str | None:
    """A setting below net.ipv4; None where there is none."""
    try:
        return (Path(root) / _IPV4 / name).read_text().strip()
    except OSError:
        return None
