"""The tandem model against the test bed: MobileNetV2's head on the device, a real link, its tail on the real Triton.

Ng et al.'s Fig. 5a measured: the whole model on the device, and three split points over 50 Mbit/s. First every stage is
timed alone, then Poisson arrivals come at some rates, and the closed forms (and the simulator) predict each mean from
what was timed alone. Needs root (namespaces), the Triton environment (`make triton`) and MobileNetV2 as ONNX, which
`carbonpilot models export --model mobilenetv2 --random 0` makes (extra `zoo`). Device, link and server share this
machine's processors: where they work at the same time they slow each other, which no form knows; the stages' times
under load are printed beside those alone.

    .venv/bin/python benchmarks/testbed_split.py --onnx mobilenetv2.onnx --out runs/split
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from carbonpilot.agents.ng_sites import Site, simulate
from carbonpilot.agents.ng_split import SPLIT_POINTS, STAGES
from carbonpilot.agents.ng_split_forms import constant_tandem_ms, tandem_ms
from carbonpilot.agents.partition.cuts import Cut, cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.envs.files import write_json
from carbonpilot.real.segments.manifest import read_manifest
from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, run_in
from carbonpilot.real.testbed.profiles import Profile
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.repository.write import Repository
from carbonpilot.real.testbed.server import TritonServer
from carbonpilot.real.testbed.server_environment import find_environment

HERE = Path(__file__).resolve().parent
LOCAL = "local"
HEADINGS = ("where", "rate", "n", "mean", "p50", "p95", "tandem", "error", "constant", "error", "simulator", "error",
            "p95 sim.", "s.e.", "head", "tail")  # fmt: skip


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    segments = write_segments(options)
    profile = Profile("split", options.rtt_ms, 0.0, 0.0, options.mbps)
    with (
        Namespaces(("device", "edge")) as spaces,
        Link(
            spaces.device, spaces["edge"], profile, seed=1, congestion_control=options.congestion_control
        ) as link,
    ):
        repository = Repository(segments / "triton", MODEL_SETS["fast"], options.out / "faults")
        server = TritonServer(
            find_environment(), repository, options.out / "server.log",
            namespace=spaces["edge"], address=link.server_address,
        )  # fmt: skip
        with server:
            plans = plan(segments, options)
            played = play(spaces.device, server.grpc, plans, options.out)
    rows = analyse(plans, played, options)
    write_json(options.out / "split.json", {"load_average": os.getloadavg()[0], "rows": rows})
    show(rows)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--onnx", type=Path, required=True, help="MobileNetV2 at 224 x 224")
    parser.add_argument(
        "--rate", action="append", type=float, help="requests a second; repeatable (5, 20, 40)"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="of each rate and configuration")
    parser.add_argument(
        "--least", type=int, default=150, help="requests of each, longer where the rate is low"
    )
    parser.add_argument("--alone", type=int, default=60, help="requests that time the stages alone")
    parser.add_argument("--mbps", type=float, default=50.0)
    parser.add_argument("--rtt-ms", type=float, default=1.0)
    parser.add_argument("--congestion-control", default="bbr")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/split"))
    options = parser.parse_args()
    options.rate = options.rate or [5.0, 20.0, 40.0]
    return options


def write_segments(options: argparse.Namespace) -> Path:
    """Heads and tails of the three split points, made once; returns their folder."""
    folder = options.out / "segments"
    if not folder.exists():
        cuts = [word for stage in SPLIT_POINTS for word in ("--cut", cut_after(options.onnx, stage).name)]
        argv = [sys.executable, "-m", "carbonpilot.cli", "segments", "write", str(options.onnx), *cuts,
                "--out", str(folder), "--max-batch", "1"]  # fmt: skip
        subprocess.run(argv, check=True)
    return folder


def cut_after(onnx: Path, stage: str) -> Cut:
    """The last cut whose activation has the shape of a stage's output."""
    values = {s.name: s.values for s in STAGES}[stage]
    shapes = [c for c in cut_points(read_graph(onnx)) if c.elements == values]
    if not shapes:
        raise SystemExit(f"{onnx} has no cut of {values} values, as MobileNetV2 has after {stage}")
    return shapes[-1]


def plan(segments: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs: each configuration alone, then at each rate."""
    manifest = read_manifest(segments)
    cuts = {cut_after(options.onnx, stage).name: stage for stage in SPLIT_POINTS}
    places: list[dict[str, Any]] = [
        {"where": LOCAL, "head": str(options.onnx.resolve()), "tail": None, "activation_kb": 0.0}
    ]
    for i, (cut, stage) in enumerate(cuts.items(), start=1):
        part = manifest.segment(cut)
        head = str((segments / part.head.file).resolve())
        places.append({"where": f"SP{i} {stage}", "head": head, "tail": part.triton_model,
                       "activation_kb": part.wire_bytes / 1000})  # fmt: skip
    rng = np.random.default_rng(options.seed)
    runs = [{**p, "rate": 0.0, "gaps_s": [0.15] * options.alone} for p in places]
    for rate in options.rate:
        gaps = rng.exponential(
            1 / rate, size=max(options.least, round(rate * options.seconds))
        ).tolist()  # the same for all
        runs += [{**p, "rate": rate, "gaps_s": gaps} for p in places]
    return runs


def play(device: str, server: str, plans: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    """Run all plans in one process on the device."""
    orders, result = out / "orders.json", out / "result.json"
    orders.write_text(json.dumps({"server": server, "runs": plans}))
    argv = [sys.executable, str(HERE / "testbed_split_device.py"), str(orders), str(result)]
    if run_in(device, argv).wait() != 0:
        raise SystemExit("the device's part ended with an error, see above")
    return json.loads(result.read_text())


def analyse(
    plans: list[dict[str, Any]], played: list[dict[str, Any]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each run; those under load with predictions from the same configuration alone."""
    alone: dict[str, dict[str, float]] = {}
    rows = []
    for run, result in zip(plans, played, strict=True):
        row = measured(run, result)
        if run["rate"] == 0.0:
            alone[run["where"]] = stages(row, run, options)
        else:
            row |= predicted(alone[run["where"]], run["rate"], options.seed)
            row["alone"] = alone[run["where"]]
        rows.append(row)
    return rows


def measured(run: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """What a run showed; ms."""
    requests = result["requests"]
    failed = [r["failed"] for r in requests if r["failed"] or r["done_s"] == 0.0]
    if failed:
        raise SystemExit(f"{run['where']}: {len(failed)} of {len(requests)} requests failed: {failed[0]}")
    arrived, began, sent, done = (
        1000 * np.array([r[k] for r in requests]) for k in ("arrived_s", "began_s", "sent_s", "done_s")
    )
    latency, split = done - arrived, run["tail"] is not None
    head = (sent if split else done) - began
    server = result["server_ms"]
    return {
        "where": run["where"],
        "rate_per_s": run["rate"],
        "count": len(requests),
        "mean_ms": float(latency.mean()),
        "p50_ms": float(np.quantile(latency, 0.5)),
        "p95_ms": float(np.quantile(latency, 0.95)),
        "standard_error_ms": block_error(latency),
        "head_ms": float(head.mean()),
        "head_scv": float(head.var() / head.mean() ** 2),
        "tail_ms": sum(v for k, v in server.items() if k != "queue"),
        "tail_queue_ms": server.get("queue", 0.0),
        "beyond_head_ms": float((done - sent).mean()) if split else 0.0,
    }


def block_error(values: np.ndarray, blocks: int = 10) -> float:
    """Standard error of a mean of values that follow on one another, from blocks."""
    means = [part.mean() for part in np.array_split(values, blocks)]
    return float(np.std(means, ddof=1) / np.sqrt(blocks))


def stages(row: dict[str, Any], run: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """Service times of the stages: head and tail as timed alone, the link by its rate, and what is left over."""
    link_ms = 8 * run["activation_kb"] / options.mbps
    tail_ms = row["tail_ms"]
    rest = row["mean_ms"] - row["head_ms"] - link_ms - tail_ms
    return {"head_ms": row["head_ms"], "link_ms": link_ms, "tail_ms": tail_ms, "fixed_ms": rest}


def predicted(alone: dict[str, float], rate: float, seed: int) -> dict[str, Any]:
    """Predicted means: the paper's tandem, the form for constant times, the simulator; ms."""
    head, link, tail, fixed = (alone[k] for k in ("head_ms", "link_ms", "tail_ms", "fixed_ms"))
    if tail > 0:
        site = Site(rate, (tail,), request_ms=link, payload="constant", head_ms=head)
    else:
        site = Site(rate, (head,), on_device=True)
    simulated = simulate(site, seed, episodes=64, requests=2000)
    return {
        "tandem_ms": tandem_ms(head, link, tail, rate) + fixed,
        "constant_ms": float(constant_tandem_ms((head, link, tail), rate)) + fixed,
        "simulated_ms": simulated.mean_ms + fixed,
        "simulated_p95_ms": simulated.p95_ms + fixed,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line for each run, ms; head and tail: mean times of the stages then."""
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print("| " + " | ".join(HEADINGS) + " |\n|" + " --- |" * len(HEADINGS))
    for r in rows:
        cells = [r["where"], f"{r['rate_per_s']:g}" if r["rate_per_s"] else "alone", str(r["count"])]
        cells += [f"{r[k]:.1f}" for k in ("mean_ms", "p50_ms", "p95_ms")]
        for key in ("tandem_ms", "constant_ms", "simulated_ms"):
            cells += (
                [f"{r[key]:.1f}", f"{100 * (r[key] / r['mean_ms'] - 1):+.1f} %"] if key in r else ["", ""]
            )
        cells.append(f"{r['simulated_p95_ms']:.1f}" if "simulated_p95_ms" in r else "")
        cells += [f"{r['standard_error_ms']:.1f}", f"{r['head_ms']:.1f}", f"{r['tail_ms']:.1f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
