"""Planning MobileNetV2 over all cuts and three nodes, by objective; the goal is 50 ms.

What is planned is the whole of it: putting the numbers together from the graph and searching. Reading the file stands
beside it. Medians of some runs in processor time, which neighbours on the machine do not add to. Needs the extra zoo.
Run: python benchmarks/bench_partition.py
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from carbonpilot.agents.partition.costs import mac_costs
from carbonpilot.agents.partition.cuts import cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.agents.partition.nodes import Chain
from carbonpilot.agents.partition.result import LIMITED, partition

RUNS = 15
GOAL_MS = 50.0
CHAIN = Chain.model_validate(
    {
        "schema": "carbonpilot/nodes/1",
        "payload_kb": 150.5,
        "nodes": [
            {"name": "device", "whole_model_ms": 116, "active_power_w": 30, "pue": 1, "carbon_g_per_kwh": 400},
            {"name": "edge", "whole_model_ms": 16.5, "active_power_w": 50, "pue": 1.1, "carbon_g_per_kwh": 400},
            {"name": "cloud", "whole_model_ms": 8, "active_power_w": 100, "pue": 1.2, "carbon_g_per_kwh": 50},
        ],
        "links": [
            {"from": "device", "to": "edge", "rate_mbps": 10, "rtt_ms": 5, "energy_nj_per_bit": 10,
             "carbon_g_per_kwh": 400, "transmit_power_w": 2},
            {"from": "edge", "to": "cloud", "rate_mbps": 200, "rtt_ms": 20, "energy_nj_per_bit": 20,
             "carbon_g_per_kwh": 300},
        ],
    }
)  # fmt: skip


def median_ms(work: Callable[[], object]) -> float:
    work()
    taken = []
    for _ in range(RUNS):
        start = time.process_time()
        work()
        taken.append(1000.0 * (time.process_time() - start))
    return statistics.median(taken)


def main() -> int:
    if importlib.util.find_spec("timm") is None:
        print("timm is not installed (extra zoo); left out")
        return 0
    from carbonpilot.agents.zoo.export import export_classifier

    with tempfile.TemporaryDirectory() as folder:
        path = export_classifier("mobilenetv2", Path(folder) / "m.onnx", random_seed=0).path
        graph = read_graph(path)
        print(f"reading the file and inferring its shapes {median_ms(lambda: read_graph(path)):8.2f} ms")
    cuts, costs = cut_points(graph), mac_costs(graph)
    found_ms = median_ms(lambda: cut_points(graph))
    print(f"finding {len(cuts)} cuts of {len(graph.operations)} operations {found_ms:13.2f} ms")
    worst = 0.0
    for objective in ("latency", "energy", "carbon", "balance", "green"):
        # The tightest limit that can be kept makes the search with a limit as hard as it gets on this site.
        for slo_ms in (None, 100.0) if objective in LIMITED else (None,):

            def plan(objective: str = objective, slo_ms: float | None = slo_ms) -> object:
                return partition(graph, cuts, costs, CHAIN, wire="uint8", objective=objective, slo_ms=slo_ms)

            taken = median_ms(plan)
            worst = max(worst, taken)
            limit = "" if slo_ms is None else f" within {slo_ms:g} ms"
            print(f"plan over 3 nodes, {objective + limit:24s} {taken:12.2f} ms")
    print(f"longest plan over the goal of {GOAL_MS:g} ms: {worst / GOAL_MS:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
