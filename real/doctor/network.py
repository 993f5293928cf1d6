"""TCP settings, and what the test bed needs: namespaces, a TUN device or netem, a Triton server, a browser."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from ..calibrate.congestion import available, sysctl, used_by_kernel
from ..probes.own_connections import OwnConnection
from .finding import Finding

GROUP, BED = "network", "test bed"
MODELLED = ("bbr", "cubic")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def congestion(root: Path) -> Finding:
    """Congestion control of new connections, which the transfer model has to know."""
    name, there = used_by_kernel(root), available(root)
    detail = f"{name} (available: {', '.join(there) or 'unknown'})"
    if name not in MODELLED:
        mend = "The simulator knows bbr and cubic: sudo sysctl -w net.ipv4.tcp_congestion_control=bbr (or cubic)."
        return Finding(GROUP, "congestion control", "failed", detail, mend)
    if name != "bbr":
        load = "" if "bbr" in there else "sudo modprobe tcp_bbr; "
        mend = f"On lossy links BBR is faster: {load}sudo sysctl -w net.ipv4.tcp_congestion_control=bbr"
        return Finding(GROUP, "congestion control", "ok", detail, mend)
    return Finding(GROUP, "congestion control", "ok", detail)


def idle_restart(root: Path) -> Finding:
    """Whether a connection begins afresh after a pause."""
    key = "tcp_slow_start_after_idle"
    value = sysctl(key, root)
    if value is None:
        return Finding(GROUP, key, "missing", "the kernel does not say", "")
    detail = f"{value}: {'windows are kept over pauses' if value == '0' else 'windows shrink over pauses'}"
    mend = "" if value == "0" else f"For rare frames: sudo sysctl -w net.ipv4.{key}=0 (calibrate afterwards)."
    return Finding(GROUP, key, "ok", detail, mend)


def acknowledgements() -> Finding:
    """Whether the kernel tells how a connection's bytes arrive: the run's own transfers are measured by that."""
    told = None
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as connection,
        contextlib.suppress(OSError),
    ):
        told = OwnConnection(connection.fileno()).progress()
    if told is None:
        mend = "It does since Linux 4.19; until then a run takes the site file's rate of each link."
        return Finding(GROUP, "own transfers", "missing", "the kernel tells too little of connections", mend)
    return Finding(
        GROUP, "own transfers", "ok", "the kernel tells how they arrive, which gives a link's rate"
    )


def test_bed() -> list[Finding]:
    """The parts of `carbonpilot testbed`; each is needed for that only."""
    from ..testbed import namespaces, server_environment

    return [
        _wanted("namespaces", namespaces.unavailable),
        _tun(),
        _netem(),
        _wanted("triton server", server_environment.unavailable),
        _browser(),
    ]


def _wanted(name: str, unavailable: Callable[[], str | None]) -> Finding:
    reason = unavailable()
    if reason is None:
        return Finding(BED, name, "ok", "can be used")
    detail, _, mend = reason.partition(". ")
    return Finding(BED, name, "missing", detail, mend or "See docs/testbed.md.")


def _tun() -> Finding:
    if Path("/dev/net/tun").exists():
        return Finding(BED, "tun device", "ok", "/dev/net/tun")
    mend = "sudo modprobe tun; in a container: --device /dev/net/tun --cap-add NET_ADMIN."
    return Finding(BED, "tun device", "missing", "no /dev/net/tun, so no link without netem", mend)


def _netem() -> Finding:
    from ..testbed.namespaces import Namespaces, unavailable
    from ..testbed.netem import netem_missing

    if unavailable() is not None:
        return Finding(BED, "netem", "missing", "not tried: no namespaces", "")
    with Namespaces(("device", "server")) as spaces:
        reason = netem_missing(spaces["device"])
    if reason is None:
        return Finding(BED, "netem", "ok", "shapes links in the kernel")
    return Finding(BED, "netem", "missing", f"{reason}; the TUN link does its work", "")


def _browser() -> Finding:
    found = next((path for b in BROWSERS if (path := shutil.which(b))), None)
    if found:
        return Finding(BED, "chromium", "ok", found)
    mend = "apt-get install chromium (only tests of the pages need it)."
    return Finding(BED, "chromium", "missing", "no Chromium: tests of the pages skip", mend)
