"""Young gRPC connections over an emulated link against the simulator's transfer model (root).

How slow a connection under BBR becomes is chance, so one says nothing: here many are opened, several side by side, each
sends images a few times a second for as long as a short run lasts, and the mean over connections is set against the
uploads of the simulator and of its table on the same path. The server is grpcio's own and answers at once with a mask;
gRPC's own work, which the simulator does not have, is what `--profile lan` shows.

Run: sudo .venv/bin/python benchmarks/grpc_connections.py [--profile emu-a] [--connections 120]   (about 4 minutes)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import numpy as np
import numpy.typing as npt
from mask_server import end, mask_server

from carbonpilot.envs.transfer.table import nearest_share, transfer_table
from carbonpilot.envs.transfer.tcp import simulate_uploads
from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, run_in
from carbonpilot.real.testbed.profiles import Profile, profile_named

F64 = npt.NDArray[np.float64]
PORT, WARM_UP = 7200, 3
RIG_MS = 0.3  # round trip over the link where it adds nothing
CLIENT = f"""
import asyncio, json, os, sys, time
import grpc
address, (at_once, calls, gap_s, size) = sys.argv[1], map(float, sys.argv[2:])
at_once, calls, size = int(at_once), int(calls), int(size)
async def one(i):
    await asyncio.sleep(i * gap_s / at_once)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call, image, took = channel.unary_unary("/any/call"), os.urandom(size), []
        for _ in range({WARM_UP}):
            await call(bytes(2500))
        begun = time.perf_counter()
        for k in range(calls):
            await asyncio.sleep(max(begun + k * gap_s - time.perf_counter(), 0.0))
            start = time.perf_counter()
            await call(image)
            took.append(1e3 * (time.perf_counter() - start))
        return took
async def main():
    print(json.dumps(await asyncio.gather(*(one(i) for i in range(at_once)))))
asyncio.run(main())
"""


def main() -> None:
    options = parse()
    profile = profile_named(options.profile)
    took = measured(profile, options)
    rtt_ms, share = profile.rtt_ms + RIG_MS, profile.rtt_jitter_ms / profile.rtt_ms
    simulated = simulate_uploads(
        options.congestion_control, rtt_ms, profile.rtt_jitter_ms, profile.loss, profile.rate_mbps,
        options.payload_bytes, options.calls, gap_ms=options.gap_ms, connections=2000, seed=1,
    ).T  # fmt: skip
    tables = {s: table_uploads(profile, rtt_ms, s, options) for s in (None, share)}
    print(
        f"\n{len(took)} connections of {options.calls} images of {options.payload_bytes} bytes, {profile.name}"
    )
    tell("gRPC calls", took)
    tell("simulator", simulated)
    tell("table, 15 % jitter", tables[None])
    tell(f"table, {100 * nearest_share(share):.0f} % jitter", tables[share])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="emu-a")
    parser.add_argument("--connections", type=int, default=120)
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--gap-ms", type=float, default=200.0)
    parser.add_argument("--payload-bytes", type=int, default=50_000)
    parser.add_argument("--mask-bytes", type=int, default=8192)
    parser.add_argument("--congestion-control", default="bbr", help="of images")
    parser.add_argument("--reply-congestion-control", default="cubic", help="of masks")
    return parser.parse_args()


def measured(profile: Profile, options: argparse.Namespace) -> F64:
    """Times of calls (connections, calls), ms."""
    found: list[list[float]] = []
    controls = {name: getattr(options, name) for name in ("congestion_control", "reply_congestion_control")}
    with Namespaces() as ns, Link(ns.device, ns.server, **controls) as link:
        server = mask_server(ns.server, PORT, options.mask_bytes)
        link.shape(profile)
        numbers = (options.at_once, options.calls, options.gap_ms / 1e3, options.payload_bytes)
        argv = [sys.executable, "-c", CLIENT, f"{link.server_address}:{PORT}", *map(str, numbers)]
        try:
            while len(found) < options.connections:
                client = run_in(ns.device, argv, stdout=subprocess.PIPE, text=True)
                found += json.loads(client.communicate()[0])
        finally:
            end(server)
    return np.array(found)


def table_uploads(profile: Profile, rtt_ms: float, share: float | None, options: argparse.Namespace) -> F64:
    """Uploads of connections that walk through the table (connections, calls), ms."""
    table, rng, walkers = transfer_table(options.congestion_control, share), np.random.default_rng(2), 4000
    segment = table.segment_bin(options.payload_bytes)
    path = table.path_bin(np.array(profile.loss), profile.rate_mbps, rtt_ms)
    state, out = np.full(walkers, table.initial_state), np.empty((options.calls, walkers))
    for k in range(options.calls):
        draw = rng.integers(0, table.draws, walkers)
        index = table.index(state, segment, path, draw)
        rtt = np.maximum(rtt_ms + profile.rtt_jitter_ms * rng.standard_normal(walkers), 0.0)
        out[k] = rtt * (1.0 + table.extra_rtts[index]) + options.payload_bytes * 8e-3 / profile.rate_mbps
        state = table.next_state[index].astype(np.int64)
    return out.T


def tell(name: str, took: F64) -> None:
    """One line: mean with its standard error over connections, of the first ten and of the others."""
    each = took.mean(axis=1)
    p50, p95 = np.percentile(took, [50, 95])
    print(
        f"{name:20} mean {took.mean():5.1f} +- {each.std() / np.sqrt(each.size):3.1f} ms   first ten "
        f"{took[:, :10].mean():5.1f}, others {took[:, 10:].mean():5.1f}   p50 {p50:5.1f}, p95 {p95:5.1f}   "
        f"connections beyond {1.25 * np.median(each):.0f} ms: {100 * (each > 1.25 * np.median(each)).mean():.0f} %"
    )


if __name__ == "__main__":
    main()
