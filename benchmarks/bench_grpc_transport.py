"""A gRPC call with an image up and a mask down over the emulated links, by congestion control and payload (root).

gRPC hides its socket, so the congestion control is set from outside, by the route (``ip route ... congctl``), and read
back with ``ss``. The server is grpcio's own, with a handler that answers at once.

Run: sudo .venv/bin/python benchmarks/bench_grpc_transport.py [--profile emu-a ...] [--calls 30] [--gap-ms 100]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from mask_server import end, mask_server

from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, ip, run_in, set_sysctl
from carbonpilot.real.testbed.profiles import profile_named

PORT, MASK_BYTES, SKIPPED = 7200, 32_768, 3
PAYLOADS = {"JPEG 256x512": 50_000, "uint8 256x512": 393_216, "uint8 512x1024": 1_572_864}
CLIENT = """
import json, subprocess, sys, time
import grpc
address, size, calls, gap_s, fresh = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
payload, took, channel = bytes(size), [], None
for _ in range(calls):
    start = time.perf_counter()
    if channel is None:
        channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    channel.unary_unary("/any/call")(payload)
    took.append(1e3 * (time.perf_counter() - start))
    said = subprocess.run(["ss", "-tinH", "dport", "=", "7200"], capture_output=True, text=True).stdout.split()
    if fresh == "fresh":
        channel.close()
        channel = None
    time.sleep(max(gap_s - (time.perf_counter() - start), 0.0))
print(json.dumps({"took": took, "control": next((c for c in ("bbr", "cubic", "reno") if c in said), "unknown")}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="append")
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--gap-ms", type=float, default=100.0)
    parser.add_argument("--slow-start-after-idle", type=int, default=1, choices=[0, 1])
    parser.add_argument("--fresh", action="store_true", help="a new channel for each call")
    args = parser.parse_args()
    print(
        "| profile | congestion control | payload | first ms | p50 ms | p95 ms |\n|---|---|---|---|---|---|"
    )
    with Namespaces() as ns, Link(ns.device, ns.server) as link:
        set_sysctl(ns.device, "net.ipv4.tcp_no_metrics_save", 1)
        set_sysctl(ns.device, "net.ipv4.tcp_slow_start_after_idle", args.slow_start_after_idle)
        server = mask_server(ns.server, PORT, MASK_BYTES)
        try:
            for name in args.profile or ["lan", "clean-30", "emu-a", "emu-b"]:
                link.shape(profile_named(name))
                for control in ("cubic", "bbr"):
                    route = ("route", "replace", "10.77.0.0/30", "dev", "link0", "congctl", control)
                    ip(*route, namespace=ns.device)
                    for label, size in PAYLOADS.items():
                        print(row(ns, link, name, control, label, size, args), flush=True)
        finally:
            end(server)


def row(ns, link, name, control, label, size, args) -> str:
    argv = [sys.executable, "-c", CLIENT, f"{link.server_address}:{PORT}", str(size), str(args.calls)]
    argv += [str(args.gap_ms / 1e3), "fresh" if args.fresh else "warm"]
    client = run_in(ns.device, argv, stdout=subprocess.PIPE, text=True)
    said = json.loads(client.communicate()[0])
    assert said["control"] == control, f"asked for {control}, the kernel uses {said['control']}"
    took = said["took"] if args.fresh else said["took"][SKIPPED:]
    p95 = statistics.quantiles(took, n=20)[-1]
    first = f"{said['took'][0]:.0f}"
    return f"| {name} | {control} | {label} | {first} | {statistics.median(took):.1f} | {p95:.1f} |"


if __name__ == "__main__":
    main()
