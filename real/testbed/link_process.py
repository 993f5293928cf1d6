"""The link's own process: moves packets between two TUN devices (or drives tc netem) and takes orders.

Started by `Link`; ends when its standard input does (so with its parent), on SIGTERM, or when told to. Orders come
over a unix socket, one JSON message each, answered by one.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .lane import Jitter, Lane, lateness_ms
from .netem import NetemShaper
from .orders import Orders
from .scheduling import prefer_processor
from .tun import open_tun

_BATCH = 32  # packets read or written before the other direction gets its turn
_TICK_S = 0.02  # netem's delay is moved this often


class Relay:
    """The TUN link: both directions in one loop."""

    kind = "tun"

    def __init__(
        self, device: str, server: str, interface: str, addresses: tuple[str, str], seed: int
    ) -> None:
        """Make the two devices."""
        rng = random.Random(seed)
        ends = [open_tun(n, interface, a) for n, a in zip((device, server), addresses, strict=True)]
        self._jitter = Jitter(rng)
        self._up, self._down = Lane(ends[0], ends[1], rng), Lane(ends[1], ends[0], rng)
        self._lanes = [self._up, self._down]
        self._reset()

    def shape(self, p: dict[str, Any]) -> None:
        """Apply a profile's numbers."""
        half = (p["rtt_ms"] / 2e3, p["rtt_jitter_ms"] / 2e3)
        rate = p["rate_mbps"] * 1e6 / 8.0
        self._up.shape(*half, p["loss"], rate, p["outage"])
        self._down.shape(*half, 0.0, rate, p["outage"])

    def counters(self, reset: bool) -> dict[str, Any]:
        """What passed, and how well the relay kept its times."""
        moved = sum(lane.packets for lane in self._lanes)
        said = {
            "up": self._up.counts(),
            "down": self._down.counts(),
            "late_ms": lateness_ms(self._lanes),
            "cpu_us_per_packet": 1e6 * (time.process_time() - self._cpu_s) / moved if moved else None,
            "cpu_share": (time.process_time() - self._cpu_s) / max(time.monotonic() - self._since_s, 1e-9),
            "scheduling": self.scheduling,
        }
        if reset:
            self._reset()
        return said

    def run(self, control: Orders) -> None:
        """Move packets until told to stop."""
        up, down, jitter = self._up, self._down, self._jitter
        clock, wait = time.monotonic, select.select
        while not control.stopping:
            due = min(up.due_s, down.due_s, control.due_s)
            timeout = None if math.isinf(due) else max(due - clock(), 0.0)
            ready, _, _ = wait([up.source, down.source, *control.watched()], [], [], timeout)
            now = clock()
            for lane in (up, down):
                if lane.source in ready:
                    lane.read(now, jitter, _BATCH)
            now = clock()
            up.release(now, _BATCH)
            down.release(now, _BATCH)
            control.serve(ready, now)

    def _reset(self) -> None:
        for lane in self._lanes:
            lane.reset()
        self._cpu_s, self._since_s = time.process_time(), time.monotonic()

    scheduling = "normal"


class Netem:
    """The tc netem link: the kernel moves the packets, this process moves the delay and takes orders."""

    kind = "netem"

    def __init__(
        self, device: str, server: str, interface: str, addresses: tuple[str, str], seed: int
    ) -> None:
        """Make the veth pair and its disciplines."""
        self._shaper = NetemShaper(device, server, interface, addresses)
        self._jitter, self._profile = Jitter(random.Random(seed)), None

    def shape(self, p: dict[str, Any]) -> None:
        """Apply a profile's numbers."""
        self._profile = p
        self._apply()

    def counters(self, reset: bool) -> dict[str, Any]:
        """What passed; the kernel counts from the beginning, so ``reset`` is kept as a difference."""
        return self._shaper.counters(reset)

    def run(self, control: Orders) -> None:
        """Move the delay until told to stop."""
        while not control.stopping:
            ready, _, _ = select.select(control.watched(), [], [], _TICK_S)
            control.serve(ready, time.monotonic())
            if self._profile and self._profile["rtt_jitter_ms"] > 0:
                self._apply()

    def _apply(self) -> None:
        assert self._profile is not None
        self._shaper.shape(self._profile, self._jitter.unit(time.monotonic()))


def main(argv: list[str] | None = None) -> None:
    """Run a link until it is stopped."""
    args = _arguments(argv)
    kind = Relay if args.kind == "tun" else Netem
    link = kind(
        args.device, args.server, args.interface, (args.device_address, args.server_address), args.seed
    )
    now: dict[str, Any] = {"profile": None}

    def handle(order: dict[str, Any]) -> dict[str, Any]:
        do = order.get("do")
        if do == "play":
            file = Path(order["file"])
            held = json.loads(file.read_text())
            file.unlink(missing_ok=True)
            control.play(held["steps"], held["end_s"], held["loop"], time.monotonic())
        elif do in ("shape", "step"):
            if do == "shape":
                control.play([], 0.0, False, time.monotonic())
            link.shape(order["profile"])
            now["profile"] = order["profile"]
        elif do not in ("counters", "stop"):
            raise ValueError(f"unknown order {do!r}")
        counted = link.counters(bool(order.get("reset"))) if do == "counters" else {}
        return {"kind": link.kind, **now, **counted}

    path = Path(args.control)
    control = Orders(path, handle, args.watch_stdin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if isinstance(link, Relay):
        link.scheduling = prefer_processor()
    link.shape(json.loads(args.profile))
    now["profile"] = json.loads(args.profile)
    print("ready", flush=True)
    try:
        link.run(control)
    finally:
        control.close(path)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["tun", "netem"], required=True)
    for name in ("device", "server", "interface", "device-address", "server-address", "control", "profile"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--watch-stdin", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
