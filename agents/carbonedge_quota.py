"""CarbonEdge's node-quota experiment by its own accounting: nodes that differ in their CPU quota, and who gets a task.

Section IV-A: containers with 1.0, 0.6 and 0.4 CPU stand for nodes; "node-level energy values are estimated by
apportioning host energy proportionally based on Docker cgroup resource quotas". What a node draws is then fixed by
its quota, and what an inference takes there by how long it lasts, which benchmarks/quota_nodes.py measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..envs.units import J_PER_KWH, MS_PER_S
from . import carbonedge_paper as paper
from .carbonedge_monitor import PowerLog, Quota, apportion_j, carbon_g, host_energy
from .carbonedge_runs import MODES
from .carbonedge_score import Limits, NodeRecords, best_node, eligible_nodes, node_scores, total_score

MONOLITHIC = "monolithic"
MEMORY_GB = {"high": 1.0, "medium": 0.5, "green": 0.5}  # section IV-A1
QUOTAS = {name: Quota(node.cpus, MEMORY_GB[name]) for name, node in paper.NODES.items()}
# "380 gCO2/kWh vs. 530 gCO2/kWh average" (section IV-B): the grid of the monolithic run.
GRIDS = {name: node.carbon_g_per_kwh for name, node in paper.NODES.items()} | {
    MONOLITHIC: paper.NODES["medium"].carbon_g_per_kwh
}
Account = Literal["quota", "host"]


@dataclass(frozen=True)
class HostPower:
    """What the host draws; assumed where no meter is there.

    Attributes:
        cpu_w: of the CPU.
        ram_gb: RAM that the paper charges 0.375 W a GB for.
    """

    cpu_w: float
    ram_gb: float


def node_power_w(host: HostPower, account: Account = "quota") -> dict[str, float]:
    """Power of each node and of the monolithic run while an inference lasts, W.

    Args:
        host: what the host draws.
        account: "quota": the host's, shared by quotas, as section IV-A has it; the monolithic run, whose quota is not
            printed, counts as a container like Node-High. "host": all of the host's for whoever computes, which is what
            Table II's grams are: 0.0067 g at 620 g/kWh and 0.0041 g at 380 g/kWh are the same energy, in the same time.
    """
    one_second = host_energy(PowerLog.of([0.0, 1.0], [host.cpu_w] * 2, host.ram_gb, None))
    if account == "host":
        return dict.fromkeys((*QUOTAS, MONOLITHIC), one_second.total_j)
    shared = apportion_j(one_second, QUOTAS)
    return shared | {MONOLITHIC: shared["high"]}


def inference_g(node: str, latency_ms: float, power_w: Mapping[str, float]) -> float:
    """CO2 of an inference on a node, eq (2), g."""
    return carbon_g(power_w[node] * latency_ms / MS_PER_S, GRIDS[node])


def records(latency_ms: Mapping[str, float], power_w: Mapping[str, float]) -> NodeRecords:
    """What Algorithm 1 is told of the idle nodes: history of measured times, quota's power, static grids; arrays (3,).

    Resources, load and tasks are equal on all, as in the reproduction (docs/reproduce-carbonedge.md).
    """
    times = np.array([latency_ms[name] for name in QUOTAS])
    alike = np.ones(len(QUOTAS))
    return NodeRecords(
        load=0 * alike,
        latency_ms=times,
        free=alike,
        average_time_ms=times,
        task_count=0 * alike,
        carbon_g_per_kwh=np.array([GRIDS[name] for name in QUOTAS]),
        power_w=np.array([power_w[name] for name in QUOTAS]),
        execution_ms=times,
    )


def choose(
    mode: str, latency_ms: Mapping[str, float], power_w: Mapping[str, float], form: str = "as_published"
) -> str:
    """The node to which a mode sends a task, the first among equals.

    Args:
        mode: a key of `carbonedge_runs.MODES`.
        latency_ms: average time of a task on each node.
        power_w: power of each node.
        form: of S_C, see `carbonedge_score.carbon_score`.
    """
    seen = records(latency_ms, power_w)
    total = total_score(node_scores(seen, form), MODES[mode])
    return tuple(QUOTAS)[int(best_node(total, eligible_nodes(seen, Limits())))]


def green_powers(
    latency_ms: Mapping[str, float], mode: str = paper.GREEN, low_w: float = 1.0, high_w: float = 1000.0
) -> tuple[float, float] | None:
    """Least and largest power of the host, W, at which a mode chooses Node-Green; None where it never does.

    S_C depends on how much an inference emits (eq (4) as published), so the choice depends on the assumed power. Looked
    for from ``low_w`` to ``high_w`` in steps of 2 %.
    """
    tried = np.geomspace(low_w, high_w, 350)
    green = [w for w in tried if choose(mode, latency_ms, node_power_w(HostPower(w, 0.0))) == "green"]
    return (float(green[0]), float(green[-1])) if green else None


def reduction_pct(
    latency_ms: Mapping[str, float], power_w: Mapping[str, float], node: str = "green"
) -> float:
    """CO2 that a node saves against the monolithic run, %."""
    mono = inference_g(MONOLITHIC, latency_ms[MONOLITHIC], power_w)
    return 100 * (1 - inference_g(node, latency_ms[node], power_w) / mono)


def printed_energy_j(configuration: str, node: str) -> float:
    """Energy of an inference that a printed row of Table II means, J."""
    return paper.TABLE_II[configuration].carbon_g / GRIDS[node] * J_PER_KWH


def printed_power_w() -> float:
    """The host's power that Table II's monolithic row means: 36.0 J in 254.85 ms, W."""
    row = paper.TABLE_II[paper.MONOLITHIC]
    return printed_energy_j(paper.MONOLITHIC, MONOLITHIC) / row.latency_ms * MS_PER_S
