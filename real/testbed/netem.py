"""The link where the kernel can shape it: a veth pair with a tc netem discipline at each end.

Netem's own jitter draws a delay per packet, which reorders them; here the delay itself moves every 20 ms with the
same slow offset as the relay's, so both kinds of link do the same to a connection.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

from ...envs.errors import CarbonPilotError, InputError
from .lane import QUEUE_PACKETS
from .namespaces import ip, run_in

ZERO = {"packets": 0, "bytes": 0, "lost": 0, "overflowed": 0, "cut": 0, "refused": 0}


def netem_missing(namespace: str) -> str | None:
    """Why tc netem cannot be used here, tried on a namespace's loopback; None where it can."""
    if shutil.which("tc") is None:
        return "the command tc is missing"
    if shutil.which("ethtool") is None:
        return "the command ethtool is missing"
    added = _tc(namespace, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    if added.returncode != 0:
        return f"the kernel has no netem ({added.stderr.strip().splitlines()[0]})"
    _tc(namespace, "qdisc", "del", "dev", "lo", "root")
    return None


def netem_words(profile: dict[str, Any], offset: float, *, loss: bool) -> list[str]:
    """Netem's parameters for one direction.

    Args:
        profile: numbers of a `Profile`.
        offset: of the round-trip time, in standard deviations.
        loss: whether this direction loses packets (the one towards the server).
    """
    delay_ms = max(profile["rtt_ms"] + offset * profile["rtt_jitter_ms"], 0.0) / 2.0
    share = 1.0 if profile["outage"] else profile["loss"] if loss else 0.0
    words = ["delay", f"{1e3 * delay_ms:.0f}us", "loss", f"{100.0 * share:.6g}%"]
    return [*words, "rate", f"{profile['rate_mbps'] * 1e6:.0f}bit", "limit", str(QUEUE_PACKETS)]


class NetemShaper:
    """A veth pair between two namespaces and the disciplines on it.

    Args:
        device, server: namespaces.
        interface: name of both ends.
        addresses: of both ends, with the prefix length.
    """

    def __init__(self, device: str, server: str, interface: str, addresses: tuple[str, str]) -> None:
        """Make the pair, without offloads, so that a packet lost is one packet."""
        self._ends, self._interface = (device, server), interface
        ip(
            "link",
            "add",
            interface,
            "netns",
            device,
            "type",
            "veth",
            "peer",
            "name",
            interface,
            "netns",
            server,
        )
        for namespace, address in zip(self._ends, addresses, strict=True):
            off = ["ethtool", "-K", interface, "tso", "off", "gso", "off", "gro", "off"]
            run_in(namespace, off, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()
            ip("addr", "add", address, "dev", interface, namespace=namespace)
            ip("link", "set", interface, "up", namespace=namespace)
            added = _tc(
                namespace, "qdisc", "add", "dev", interface, "root", "netem", "limit", str(QUEUE_PACKETS)
            )
            if added.returncode != 0:
                raise InputError(
                    f"tc netem was refused: {added.stderr.strip()}. Use the TUN link (--link tun)."
                )
        # One tc for each end that reads commands as they come: a process for each change would cost more.
        self._tcs = [
            run_in(n, ["tc", "-force", "-batch", "-"], stdin=subprocess.PIPE, text=True) for n in self._ends
        ]
        self._zero = [dict(ZERO), dict(ZERO)]

    def shape(self, profile: dict[str, Any], offset: float) -> None:
        """Change both directions."""
        for up, tc in zip((True, False), self._tcs, strict=True):
            words = ["qdisc", "change", "dev", self._interface, "root", "netem"]
            assert tc.stdin is not None
            try:
                tc.stdin.write(" ".join(words + netem_words(profile, offset, loss=up)) + "\n")
                tc.stdin.flush()
            except OSError as error:
                raise CarbonPilotError(
                    f"tc has ended ({error.strerror}); the link can no longer be changed"
                ) from error

    def counters(self, reset: bool) -> dict[str, Any]:
        """What the disciplines counted; netem does not say why it dropped, so every drop is ``lost``."""
        now = [self._counted(namespace) for namespace in self._ends]
        said = [{k: n[k] - z[k] for k in n} for n, z in zip(now, self._zero, strict=True)]
        if reset:
            self._zero = now
        return {
            "up": said[0],
            "down": said[1],
            "late_ms": None,
            "cpu_us_per_packet": None,
            "scheduling": "kernel",
        }

    def _counted(self, namespace: str) -> dict[str, int]:
        told = json.loads(_tc(namespace, "-s", "-j", "qdisc", "show", "dev", self._interface).stdout)
        netem = next(q for q in told if q.get("kind") == "netem")
        return ZERO | {"packets": netem["packets"], "bytes": netem["bytes"], "lost": netem["drops"]}


def _tc(namespace: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = ["ip", "netns", "exec", namespace, "tc", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)
