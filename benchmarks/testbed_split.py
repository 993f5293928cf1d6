"""The tandem model against the test bed: MobileNetV2's head on the device, a real link, its tail on the real Triton.

Ng et al.'s Fig. 5a measured: the whole model on the device, and three split points over 50 Mbit/s. Before and after
each rate of Poisson arrivals every stage is timed alone, and from that the closed forms and the simulator predict the
means. Needs root (namespaces), the Triton environment (`make triton`) and MobileNetV2 as ONNX, which
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

from carbonpilot.agents.ng_sites import Site, scenario_of
from carbonpilot.agents.ng_split import SPLIT_POINTS, STAGES
from carbonpilot.agents.ng_split_forms import constant_tandem_ms, tandem_ms
from carbonpilot.agents.partition.cuts import Cut, cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.envs.files import write_json
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.tape import draw_tape, evaluation_seeds
from carbonpilot.real.segments.manifest import read_manifest
from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, run_in
from carbonpilot.real.testbed.profiles import Profile
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.repository.write import Repository
from carbonpilot.real.testbed.server import TritonServer
from carbonpilot.real.testbed.server_environment import find_environment

HERE = Path(__file__).resolve().parent
ORDERS, RESULT = "orders.json", "result.json"
LOCAL = "local"
IP_BYTES, TCP_BYTES = 1500, 1448  # of a full packet on the wire, and of data in it
HEADINGS = ("where", "rate", "load", "n", "mean", "s.e.", "p50", "p95", "head", "tail", "tandem", "constant",
            "simulator", "its p95", "tandem, alone", "simulator, alone")  # fmt: skip


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    plans, played = measure(options) if not options.again else again(options.out)
    rows = analyse(plans, played, options)
    write_json(options.out / "split.json", {"load_average": os.getloadavg()[0], "rows": rows})
    show(rows)
    return 0


def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Build the test bed and play; returns what was to be played and what came of it."""
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
            return plans, play(spaces.device, server.grpc, plans, options.out)


def again(out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What an earlier call played."""
    return json.loads((out / ORDERS).read_text())["runs"], json.loads((out / RESULT).read_text())


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
    parser.add_argument("--alone", type=int, default=40, help="requests that time the stages alone")
    parser.add_argument("--mbps", type=float, default=50.0)
    parser.add_argument("--rtt-ms", type=float, default=1.0)
    parser.add_argument("--congestion-control", default="bbr")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--again", action="store_true", help="analyse what was measured before into the same --out"
    )
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
    """The last cut whose activation has the size of a stage's output, which no later one has for these three stages."""
    values = {s.name: s.values for s in STAGES}[stage]
    cuts = [c for c in cut_points(read_graph(onnx)) if c.elements == values]
    if not cuts:
        raise SystemExit(f"{onnx} has no cut of {values} values, as MobileNetV2 has after {stage}")
    return cuts[-1]


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
    alone = [{**p, "rate": 0.0, "gaps_s": [0.15] * options.alone} for p in places]
    runs = list(alone)
    for rate in options.rate:
        gaps = rng.exponential(
            1 / rate, size=max(options.least, round(rate * options.seconds))
        ).tolist()  # the same for all
        runs += [{**p, "rate": rate, "gaps_s": gaps} for p in places] + alone
    return runs


def play(device: str, server: str, plans: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    """Run all plans in one process on the device."""
    orders, result = out / ORDERS, out / RESULT
    orders.write_text(json.dumps({"server": server, "runs": plans}))
    argv = [sys.executable, str(HERE / "testbed_split_device.py"), str(orders), str(result)]
    if run_in(device, argv).wait() != 0:
        raise SystemExit("the device's part ended with an error, see above")
    return json.loads(result.read_text())


def analyse(
    plans: list[dict[str, Any]], played: list[dict[str, Any]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each run; those under load with predictions from the stages' times then, and from those timed alone."""
    seen = [measured(run, result) for run, result in zip(plans, played, strict=True)]
    rows = [row for row, _ in seen]
    for i, (run, (row, arrivals_ms)) in enumerate(zip(plans, seen, strict=True)):
        if run["rate"] > 0.0:
            same = [j for j, r in enumerate(plans) if r["where"] == run["where"] and r["rate"] == 0.0]
            around = max(j for j in same if j < i), min(j for j in same if j > i)
            row["alone"] = stages([rows[j] for j in around], run, options)
            then = row["alone"] | {"head_ms": row["head_ms"], "tail_ms": row["tail_ms"]}
            row |= predicted(then, run["rate"], arrivals_ms)
            row |= {"alone_" + k: v for k, v in predicted(row["alone"], run["rate"], arrivals_ms).items()}
    return rows


def measured(run: dict[str, Any], result: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """What a run showed, and when its requests came; ms."""
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
    row = {
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
    return row, arrived - arrived[0]


def block_error(values: np.ndarray, most: int = 10) -> float:
    """Standard error of a mean of values that follow on one another, from blocks."""
    blocks = min(most, len(values) // 2)
    means = [part.mean() for part in np.array_split(values, blocks)]
    return float(np.std(means, ddof=1) / np.sqrt(blocks))


def stages(alone: list[dict[str, Any]], run: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """Service times of the stages: head and tail as timed alone, the link by its rate, and what is left over."""
    link_ms = 8 * run["activation_kb"] / options.mbps * IP_BYTES / TCP_BYTES
    mean_ms, head_ms, tail_ms = (
        float(np.mean([a[k] for a in alone])) for k in ("mean_ms", "head_ms", "tail_ms")
    )
    rest = mean_ms - head_ms - link_ms - tail_ms
    return {"head_ms": head_ms, "link_ms": link_ms, "tail_ms": tail_ms, "fixed_ms": rest}


def predicted(times: dict[str, float], rate: float, arrivals_ms: np.ndarray) -> dict[str, float]:
    """Predicted latencies: the tandem and the form for constant times at this rate, the simulator on these arrivals.

    The closed forms are means over all that may come, the simulator knows when the requests came; ms.
    """
    head, link, tail, fixed = (times[k] for k in ("head_ms", "link_ms", "tail_ms", "fixed_ms"))
    split = tail > 0
    site = Site(rate, (tail,), request_ms=link, payload="constant", head_ms=head) if split else (
        Site(rate, (head,), on_device=True))  # fmt: skip
    latency = simulated_ms(site, arrivals_ms, int(split)) + fixed
    return {
        "load": rate * max(head, link, tail) / 1000,
        "tandem_ms": tandem_ms(head, link, tail, rate) + fixed,
        "constant_ms": float(constant_tandem_ms((head, link, tail), rate)) + fixed,
        "simulated_ms": float(latency.mean()),
        "simulated_p95_ms": float(np.quantile(latency, 0.95)),
    }


def simulated_ms(site: Site, arrivals_ms: np.ndarray, placement: int) -> np.ndarray:
    """Latencies of the simulator if requests come at these times."""
    simulator = Simulator(scenario_of(site, len(arrivals_ms)), 1, "evaluation")
    tape = draw_tape(simulator.site, evaluation_seeds(1, 1), "evaluation")
    assert tape.arrivals_ms is not None
    tape.arrivals_ms[: len(arrivals_ms), 0] = arrivals_ms
    tape.arrivals_ms[len(arrivals_ms) :, 0] = arrivals_ms[-1] + 1000.0
    simulator.reset_tape(tape)
    action = np.array([placement])
    return np.array([simulator.step(action).outcome.latency_ms[0] for _ in arrivals_ms])


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line for each run, ms: what was seen, predictions with head and tail as they were, and as timed alone."""
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print("| " + " | ".join(HEADINGS) + " |\n|" + " --- |" + " ---: |" * (len(HEADINGS) - 1))
    for r in rows:
        rate = f"{r['rate_per_s']:g}" if r["rate_per_s"] else "alone"
        line = [r["where"], rate, f"{r['load']:.2f}" if "load" in r else "", str(r["count"])]
        line += [
            f"{r[k]:.1f}" for k in ("mean_ms", "standard_error_ms", "p50_ms", "p95_ms", "head_ms", "tail_ms")
        ]
        line += [_off(r, key, "mean_ms") for key in ("tandem_ms", "constant_ms", "simulated_ms")]
        line += [_off(r, "simulated_p95_ms", "p95_ms")]
        line += [_off(r, key, "mean_ms") for key in ("alone_tandem_ms", "alone_simulated_ms")]
        print("| " + " | ".join(line) + " |")


def _off(row: dict[str, Any], ours: str, seen: str) -> str:
    return f"{row[ours]:.1f} ({100 * (row[ours] / row[seen] - 1):+.1f} %)" if ours in row else ""


if __name__ == "__main__":
    sys.exit(main())
