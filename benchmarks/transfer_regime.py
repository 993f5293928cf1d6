"""The tcp model against fresh kernel connections on paths like the environment's: 25-80 ms, jitter 15 % (root).

Run: sudo .venv/bin/python benchmarks/transfer_regime.py [--connections 24] [--links 12]   (about 4 minutes)
"""

from __future__ import annotations

import argparse

import numpy as np

from carbonpilot.envs.transfer.states import JITTER_SHARE
from carbonpilot.envs.transfer.tcp import simulate_uploads
from carbonpilot.real.testbed.profiles import Profile
from carbonpilot.real.testbed.uploads import Job, UploadBed

# RTT ms, loss, Mbit/s, payload bytes
PATHS = [
    (50.0, 0.006, 50.0, 50_000),
    (50.0, 0.015, 50.0, 50_000),
    (25.0, 0.006, 30.0, 60_000),
    (80.0, 0.006, 80.0, 30_000),
]
UPLOADS, SKIPPED, RIG_MS = 60, 3, 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--links", type=int, default=12)
    args = parser.parse_args()
    jobs = {}
    for path in PATHS:
        rtt_ms, loss, rate_mbps, payload = path
        link = Profile(f"{rtt_ms:g} ms, {100 * loss:g} %", rtt_ms, JITTER_SHARE * rtt_ms, loss, rate_mbps)
        for control in ("bbr", "cubic"):
            for connection in range(args.connections):
                jobs[Job(link, control, payload, connection, UPLOADS)] = path
    took: dict = {}
    with UploadBed(args.links) as bed:
        for measured in bed.measure(list(jobs)):
            key = (measured.job.congestion_control, jobs[measured.job])
            took.setdefault(key, []).append([u.took_ms for u in measured.uploads[SKIPPED:]])
    print(
        "| path | kB | cc | kernel p50 / p95 ms | model p50 / p95 ms | model - kernel |\n|---|---|---|---|---|---|"
    )
    for (control, path), kernel in sorted(took.items(), key=str):
        print(row(control, path, kernel))


def row(control: str, path: tuple, kernel: list) -> str:
    rtt_ms, loss, rate_mbps, payload = path
    model = simulate_uploads(
        control,
        rtt_ms + RIG_MS,
        JITTER_SHARE * rtt_ms,
        loss,
        rate_mbps,
        payload,
        UPLOADS,
        connections=400,
        seed=1,
    )[SKIPPED:]
    theirs, ours = np.percentile(kernel, [50, 95]), np.percentile(model, [50, 95])
    off = ours / theirs - 1.0
    return (
        f"| {rtt_ms:g} ms, {100 * loss:g} %, {rate_mbps:g} Mbit/s | {payload / 1000:g} | {control} "
        f"| {theirs[0]:.0f} / {theirs[1]:.0f} | {ours[0]:.0f} / {ours[1]:.0f} | {off[0]:+.0%} / {off[1]:+.0%} |"
    )


if __name__ == "__main__":
    main()
