"""CarbonEdge's experiment on real servers with real quotas: three models on nodes of 1.0, 0.6 and 0.4 CPU.

Each node is a real Triton server under a CPU quota of the kernel (cgroup), as Docker's ``--cpus``; the monolithic run
is a server without one. 50 inferences, one after the other, three times (section IV-A4); the modes choose a node for
each by Algorithm 1 from the times seen so far, with the host's power that Table II means. Latencies are measured; power
is assumed (no meter), carbon is the paper's accounting (`agents/carbonedge_quota.py`). The client sends normalised
pictures, so a server computes everything behind them. Needs root, the Triton environment (`make triton`) and the models
as ONNX (extra `zoo`):

    for model in mobilenetv2 mobilenetv4 efficientnet-b0
    do carbonpilot models export --model $model --random 0 --out runs/quota/$model.onnx; done
    .venv/bin/python benchmarks/quota_nodes.py --models runs/quota --out runs/quota
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from cpu_quota import CpuQuota, session_of

from carbonpilot.agents import carbonedge_paper as paper
from carbonpilot.agents import carbonedge_quota as quota
from carbonpilot.agents.carbonedge_runs import MODES
from carbonpilot.agents.carbonedge_score import CARBON_FORMS
from carbonpilot.agents.partition.cuts import cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.envs.files import write_json
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.repository.write import Repository
from carbonpilot.real.testbed.server import Ports, TritonServer
from carbonpilot.real.testbed.server_environment import find_environment

MODELS = {
    "mobilenetv2": paper.MOBILENET_V2,
    "mobilenetv4": paper.MOBILENET_V4,
    "efficientnet-b0": paper.EFFICIENTNET,
}
PICTURE = (3, 224, 224)
WARM_UP = 10  # also the history that the modes begin with


class Node:
    """A server, its client, its quota."""

    def __init__(self, name: str, repository: Repository, out: Path, stack: ExitStack) -> None:
        """Start the server, then put it under its quota."""
        self.name = name
        self.server = TritonServer(
            find_environment(), repository, out / f"server-{name}.log", ports=free_ports()
        )
        stack.enter_context(self.server)
        self.client = triton.InferenceServerClient(self.server.grpc)
        self.group: CpuQuota | None = None
        if name in quota.QUOTAS:
            group = CpuQuota(f"carbonpilot-{os.getpid()}-{name}", quota.QUOTAS[name].cpus)
            self.group = stack.enter_context(group)
            assert self.server.pid is not None
            self.group.add(session_of(self.server.pid))

    def infer(self, model: str, frame: np.ndarray) -> float:
        """One inference; its latency, ms."""
        sent = triton.InferInput("ACTIVATION", list(frame.shape), "FP32")
        sent.set_data_from_numpy(frame)
        begin = time.perf_counter()
        self.client.infer(model, [sent])
        return 1000 * (time.perf_counter() - begin)


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    repository = write_models(options)
    host = quota.HostPower(options.cpu_w, options.ram_gb)
    results = []
    with ExitStack() as stack:
        names = (quota.MONOLITHIC, *quota.QUOTAS)
        nodes = {name: Node(name, repository, options.out, stack) for name in names}
        version = next(n.group.version for n in nodes.values() if n.group)
        print(
            f"cgroup {version}, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        for model in options.model:
            results.append(one_model(model, nodes, host, options))
            print(json.dumps({k: results[-1][k] for k in ("model", "latency_ms")}), flush=True)
    content = {"cgroup": version, "host_cpu_w": host.cpu_w, "host_ram_gb": host.ram_gb, "models": results}
    write_json(options.out / "quota.json", content)
    show(results)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="folder with the ONNX files")
    parser.add_argument("--model", action="append", choices=sorted(MODELS), help="repeatable; default: all")
    parser.add_argument("--inferences", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=paper.REPETITIONS)
    parser.add_argument(
        "--pause-s", type=float, default=0.3, help="between inferences of the run with pauses"
    )
    parser.add_argument("--cpu-w", type=float, default=8.0,
                        help="assumed: 4 W a thread, codecarbon's guess for a CPU that it does not know")  # fmt: skip
    parser.add_argument("--ram-gb", type=float, default=round(ram_gb(), 1), help="charged with 0.375 W a GB")
    parser.add_argument("--out", type=Path, default=Path("runs/quota"))
    options = parser.parse_args()
    options.model = options.model or list(MODELS)
    return options


def ram_gb() -> float:
    """RAM of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def write_models(options: argparse.Namespace) -> Repository:
    """A repository of the models behind the normalised picture, on one thread, without batching."""
    folder = options.out / "served"
    for name in options.model:
        onnx, parts = options.models / f"{name}.onnx", options.out / f"{name}-parts"
        if not parts.exists():
            cut = [c.name for c in cut_points(read_graph(onnx)) if c.shape == PICTURE][-1]
            argv = ["segments", "write", str(onnx), "--cut", cut, "--out", str(parts), "--max-batch", "1"]
            subprocess.run([sys.executable, "-m", "carbonpilot.cli", *argv], check=True)
        (tail,) = (parts / "triton").iterdir()
        served = shutil.copytree(tail, folder / name, dirs_exist_ok=True)
        config = served / "config.pbtxt"
        config.write_text(config.read_text().replace(tail.name, name))
    return Repository(folder, MODEL_SETS["fast"], options.out / "faults")


def free_ports() -> Ports:
    """Three ports of loopback that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = Ports(*(s.getsockname()[1] for s in sockets))
    for s in sockets:
        s.close()
    return ports


def one_model(
    model: str, nodes: dict[str, Node], host: quota.HostPower, options: argparse.Namespace
) -> dict[str, Any]:
    """Every node with a model, the modes, and the green node with pauses."""
    frame = np.random.default_rng(0).normal(size=(1, *PICTURE)).astype(np.float32)
    power_w = quota.node_power_w(quota.HostPower(quota.printed_power_w(), 0.0))
    history = {name: [node.infer(model, frame) for _ in range(WARM_UP)] for name, node in nodes.items()}
    runs: dict[str, list[list[float]]] = {name: [] for name in (*nodes, "with pauses")}
    modes: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
    shares: dict[str, dict[str, int]] = {mode: dict.fromkeys(quota.QUOTAS, 0) for mode in MODES}
    throttled_s = dict.fromkeys(quota.QUOTAS, 0.0)
    for _ in range(options.repetitions):
        for name, node in nodes.items():
            before = node.group.throttled_s() if node.group else 0.0
            runs[name].append([node.infer(model, frame) for _ in range(options.inferences)])
            if node.group:
                throttled_s[name] += node.group.throttled_s() - before
            history[name] += runs[name][-1]
        for mode in MODES:
            modes[mode].append([])
            for _ in range(options.inferences):
                name = quota.choose(mode, {n: mean(times) for n, times in history.items()}, power_w)
                took = nodes[name].infer(model, frame)
                history[name].append(took)
                modes[mode][-1].append(took)
                shares[mode][name] += 1
    runs["with pauses"].append(_with_pauses(nodes["green"], model, frame, options.pause_s))
    latency_ms = {name: mean(t for run in all_runs for t in run) for name, all_runs in runs.items()}
    return {
        "model": MODELS[model],
        "latency_ms": latency_ms,
        "latency_of_runs_ms": {name: [mean(run) for run in all_runs] for name, all_runs in runs.items()},
        "throttled_share": {
            name: 1000 * seconds / sum(t for run in runs[name] for t in run) for name, seconds in throttled_s.items()
        },
        "modes": {
            mode: {"latency_ms": mean(t for run in modes[mode] for t in run), "tasks": shares[mode]} for mode in MODES
        },
        "choice": {form: {mode: quota.choose(mode, latency_ms, power_w, form) for mode in MODES}
                   for form in CARBON_FORMS},
        "choice_at_assumed_power": {mode: quota.choose(mode, latency_ms, quota.node_power_w(host)) for mode in MODES},
        "green_from_to_host_w": quota.green_powers(latency_ms),
        "balanced_green_from_to_host_w": quota.green_powers(latency_ms, paper.BALANCED),
        "carbon_g": {account: {name: quota.inference_g(name, latency_ms[name], quota.node_power_w(host, account))
                               for name in nodes} for account in ("quota", "host")},
        "reduction_pct": {account: quota.reduction_pct(latency_ms, quota.node_power_w(host, account))
                          for account in ("quota", "host")},
    }  # fmt: skip


def _with_pauses(node: Node, model: str, frame: np.ndarray, pause_s: float) -> list[float]:
    """Inferences that find the quota unused: each may take the whole of a period's share at once."""
    times = []
    for _ in range(20):
        time.sleep(pause_s)
        times.append(node.infer(model, frame))
    return times


def show(results: list[dict[str, Any]]) -> None:
    """Print Table IV beside ours, and the choice of nodes beside Table V, as Markdown."""
    print(
        "\n| model | node | paper ms | ours ms | of monolithic | held back | by quota, mg | whole host, mg |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for r in results:
        mono, green = paper.TABLE_IV[r["model"]]
        printed = {quota.MONOLITHIC: f"{mono.latency_ms:g}", "green": f"{green.latency_ms:g}"}
        for name in (quota.MONOLITHIC, *quota.QUOTAS):
            held = f"{r['throttled_share'][name]:.0%}" if name in r["throttled_share"] else ""
            ratio = r["latency_ms"][name] / r["latency_ms"][quota.MONOLITHIC]
            grams = [f"{1000 * r['carbon_g'][account][name]:.4f}" for account in ("quota", "host")]
            print(f"| {r['model']} | {name} | {printed.get(name, '')} | {r['latency_ms'][name]:.1f} | {ratio:.2f} | "
                  f"{held} | {grams[0]} | {grams[1]} |")  # fmt: skip
        print(f"| {r['model']} | green with pauses | | {r['latency_ms']['with pauses']:.1f} | "
              f"{r['latency_ms']['with pauses'] / r['latency_ms'][quota.MONOLITHIC]:.2f} | | | |")  # fmt: skip
    print(
        "\n| model | reduction printed | by quota | whole host | "
        + " | ".join(MODES)
        + " | Green is green at |"
    )
    print("| --- | ---: | ---: | ---: |" + " --- |" * (len(MODES) + 1))
    for r in results:
        tasks = [f"{m['latency_ms']:.1f} ms, " + _most(m["tasks"]) for m in r["modes"].values()]
        span = r["green_from_to_host_w"]
        watts = "never" if span is None else f"{span[0]:.0f} to {span[1]:.0f} W"
        printed = paper.TABLE_IV[r["model"]][1].reduction_pct
        saved = [
            f"{value:.1f} %" for value in (printed, r["reduction_pct"]["quota"], r["reduction_pct"]["host"])
        ]
        print("| " + " | ".join([r["model"], *saved, *tasks, watts]) + " |")


def _most(tasks: dict[str, int]) -> str:
    name = max(tasks, key=lambda n: tasks[n])
    return f"{name} {100 * tasks[name] / sum(tasks.values()):.0f} %"


if __name__ == "__main__":
    sys.exit(main())
