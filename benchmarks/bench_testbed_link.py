"""What the test bed's TUN link costs by itself: added round trip, time per packet, most it carries (root).

Run: sudo .venv/bin/python benchmarks/bench_testbed_link.py
"""

from __future__ import annotations

import socket
import statistics
import threading
import time

from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, inside
from carbonpilot.real.testbed.profiles import PROFILES, Profile

NOTHING = Profile("nothing", 0.0, 0.0, 0.0, 10_000.0)
PINGS, FLOOD_S = 300, 2.0


def main() -> None:
    with Namespaces() as ns, Link(ns.device, ns.server, NOTHING, kind="tun") as link:
        for profile in (NOTHING, PROFILES["lan"], PROFILES["emu-a"]):
            link.shape(profile)
            link.counters(reset=True)
            rtts = ping_ms(ns, link)
            late = link.counters()["late_ms"]
            quantiles = statistics.quantiles(rtts, n=20)
            print(
                f"{profile.name}: asked for {profile.rtt_ms} ms, measured median {statistics.median(rtts):.3f} ms, "
                f"95 % {quantiles[-1]:.3f} ms; released late by {late['p99']:.1f} ms in 1 % of packets"
            )
        link.shape(NOTHING)
        link.counters(reset=True)
        mbps = flood_mbps(ns, link)
        cost = link.counters()
        print(f"flood: {mbps:.0f} Mbit/s, {cost['cpu_us_per_packet']:.1f} us of the processor a packet")


def ping_ms(ns: Namespaces, link: Link) -> list[float]:
    with inside(ns.server):
        server = socket.socket(type=socket.SOCK_DGRAM)
        server.bind((link.server_address, 0))
    with inside(ns.device):
        client = socket.socket(type=socket.SOCK_DGRAM)
        client.connect(server.getsockname())
    client.settimeout(0.5)

    def echo() -> None:
        while (got := server.recvfrom(100))[0] != b"end":
            server.sendto(*got)

    thread = threading.Thread(target=echo)
    thread.start()
    rtts = []
    for _ in range(PINGS):
        start_s = time.perf_counter()
        client.send(b"ping")
        try:
            client.recv(100)
            rtts.append(1e3 * (time.perf_counter() - start_s))
        except TimeoutError:
            continue  # lost on the way, as the profile wants it
        time.sleep(0.005)
    while thread.is_alive():
        client.send(b"end")
        thread.join(0.2)
    client.close()
    server.close()
    return rtts


def flood_mbps(ns: Namespaces, link: Link) -> float:
    with inside(ns.server):
        listener = socket.create_server((link.server_address, 0))

    def sink() -> None:
        taker, _ = listener.accept()
        with taker:
            while taker.recv(1 << 20):
                pass

    thread = threading.Thread(target=sink)
    thread.start()
    with inside(ns.device):
        sender = socket.create_connection(listener.getsockname()[:2])
    sent, start_s, block = 0, time.perf_counter(), bytes(1 << 16)
    with sender:
        while time.perf_counter() - start_s < FLOOD_S:
            sent += sender.send(block)
    thread.join()
    took_s = time.perf_counter() - start_s
    listener.close()
    return 8.0 * sent / took_s / 1e6


if __name__ == "__main__":
    main()
