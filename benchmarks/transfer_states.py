"""BBR's own estimates after each upload, the kernel's beside the model's, for connections alike in their least RTT.

How long an upload takes hangs on what BBR believes, so this shows which of its rules the model lacks, where the
quantiles of `carbonpilot traces transfers` only show that something is missing.

Run: carbonpilot testbed uploads --profile emu-b --congestion-control bbr --payload-kb 1000 --connections 100 \
         --uploads 25 --links 10 --out up.csv
     python benchmarks/transfer_states.py up.csv emu-b 1000
"""

from __future__ import annotations

import argparse
import csv
import itertools

import numpy as np

from carbonpilot.envs.transfer.bbr import Bbr
from carbonpilot.envs.transfer.connection import MSS_BYTES, WIRE_BYTES, Path
from carbonpilot.envs.transfer.profiles import PROFILES
from carbonpilot.envs.transfer.recording import FIRST_UPLOADS
from carbonpilot.envs.transfer.tcp import rest, segments_per_ms, upload

GAP_MS, CONNECTIONS = 100.0, 1200
LEAST_RTT_MS = [0.0, 1.0, 3.0, 6.0, 10.0, 14.0, 20.0, np.inf]
FEWEST = 20  # uploads of both sides that make a row
INDEX, TOOK_MS, MIN_RTT_MS, BANDWIDTH_MBPS, WINDOW, RIG_RTT_MS, RIG_PACKET_US = range(7)
COLUMNS = (
    *("index", "upload_and_reply_ms", "bbr_min_rtt_ms", "bbr_bandwidth_mbps", "snd_cwnd_segments"),
    *("rig_rtt_ms", "rig_packet_us"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", help="written by `carbonpilot testbed uploads`")
    parser.add_argument("profile", choices=sorted(PROFILES))
    parser.add_argument("payload_kb", type=float)
    args = parser.parse_args()
    payload_bytes = round(1000 * args.payload_kb)
    kernel = measured(args.csv, args.profile, payload_bytes)
    rig_rtt_ms, rig_packet_us = np.median(kernel[:, [RIG_RTT_MS, RIG_PACKET_US]], axis=0)
    model = simulated(args.profile, payload_bytes, int(kernel[:, INDEX].max()) + 1, rig_rtt_ms, rig_packet_us)
    both = [rows[rows[:, INDEX] >= FIRST_UPLOADS] for rows in (kernel, model)]
    print("kernel / model:\n")
    print("| least RTT ms | share of uploads | time ms, median | bandwidth Mbit/s, median | window, median |")
    print("|---|---|---|---|---|")
    for low, high in itertools.pairwise(LEAST_RTT_MS):
        alike = [rows[(rows[:, MIN_RTT_MS] >= low) & (rows[:, MIN_RTT_MS] < high)] for rows in both]
        if min(map(len, alike)) >= FEWEST:
            print(row(f"from {low:g}" if high == np.inf else f"{low:g}-{high:g}", alike, both))
    print(row("all", both, both))


def measured(path: str, profile: str, payload_bytes: int) -> np.ndarray:
    """The kernel's uploads of one cell (n, 7)."""
    cell = (profile, "bbr", str(payload_bytes))
    with open(path, newline="", encoding="utf-8") as file:
        rows = [
            [float(r[name]) for name in COLUMNS]
            for r in csv.DictReader(file)
            if (r["profile"], r["congestion_control"], r["payload_bytes"]) == cell and r.get("bbr_min_rtt_ms")
        ]
    if not rows:
        raise SystemExit(
            f"{path}: no uploads of {payload_bytes} bytes over {profile} with BBR's own estimates."
        )
    return np.array(rows)


def simulated(
    profile: str, payload_bytes: int, uploads: int, rig_rtt_ms: float, rig_packet_us: float
) -> np.ndarray:
    """The same of the model over that link and rig, without the rig (n, 5)."""
    link = PROFILES[profile]
    rate_mbps = min(link.rate_mbps, WIRE_BYTES * 8.0 / rig_packet_us)
    values = (link.rtt_ms + rig_rtt_ms, link.rtt_jitter_ms, link.loss, float(segments_per_ms(rate_mbps)))
    path = Path(*(np.full(CONNECTIONS, v) for v in values))
    conn, rng, rows = Bbr(path), np.random.default_rng(1), []
    segments = np.full(CONNECTIONS, np.ceil(payload_bytes / MSS_BYTES))
    for index in range(uploads):
        took = upload(conn, path, segments, rng)
        mbps = conn.best[:, 0] * MSS_BYTES * 8e-3
        rows.append(np.stack([np.full(CONNECTIONS, index), took, conn.min_rtt_ms, mbps, conn.cwnd], axis=1))
        rest(conn, took, GAP_MS)
    return np.concatenate(rows)


def row(name: str, alike: list[np.ndarray], both: list[np.ndarray]) -> str:
    shares = " / ".join(f"{len(rows) / len(total):.2f}" for rows, total in zip(alike, both, strict=True))
    columns = ((TOOK_MS, ".0f"), (BANDWIDTH_MBPS, ".1f"), (WINDOW, ".0f"))
    medians = (" / ".join(format(np.median(rows[:, c]), form) for rows in alike) for c, form in columns)
    return f"| {name} | {shares} | {' | '.join(medians)} |"


if __name__ == "__main__":
    main()
