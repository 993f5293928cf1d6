"""The numbers of a partition: time, energy and CO2 of each block on each node, and of what crosses between nodes.

Blocks are the stretches between neighbouring boundaries: boundary 0 is the input, the last one the output, those
between are the cuts. Node 0 is where the input comes about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...envs.errors import InputError
from ...envs.units import BYTES_PER_KB, MS_PER_S, S_PER_MS, carbon_mg, ms_per_kb, network_energy_j
from .costs import F64, Costs
from .cuts import Cut
from .graph import Graph
from .nodes import Chain, ComputeNode, Connection

MEASURES = ("latency_ms", "energy_j", "carbon_mg")


@dataclass(frozen=True)
class Problem:
    """What there is to choose from.

    Attributes:
        nodes: names (N,).
        boundaries: names (B + 1,): "input", the cuts, "output".
        block: by measure (B, N): a block on a node; infinite where it cannot run.
        crossing: by measure (B, N, N): from node to node at the block's first boundary; infinite where there is no way.
        crossing_kb: (B,) at the block's first boundary.
        refused: for each node, why it cannot run some block; "" where it can run all.
    """

    nodes: tuple[str, ...]
    boundaries: tuple[str, ...]
    block: dict[str, F64]
    crossing: dict[str, F64]
    crossing_kb: F64
    refused: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.boundaries) - 1


def build_problem(graph: Graph, cuts: list[Cut], costs: Costs, chain: Chain, wire: str) -> Problem:
    """Put a model and nodes together.

    Args:
        graph, cuts: of the model.
        costs: of its operations.
        chain: the nodes.
        wire: how activations cross.

    Raises:
        InputError: a node's speed is given in a way that does not go with the costs, or no node can run some operation.
    """
    last = [*(cut.after for cut in cuts), len(graph.operations) - 1]
    work = costs.of_blocks(last)
    runnable, refused = _runnable(graph, last, chain)
    ms = np.stack([work * _ms_per_cost(node, costs) for node in chain.nodes], axis=1)
    energy = ms * S_PER_MS * np.array([node.active_power_w * node.pue for node in chain.nodes])
    # CarbonEdge eq (2); the PUE is part of the energy
    carbon = energy * carbon_mg(1.0, 1.0) * np.array([node.carbon_g_per_kwh for node in chain.nodes])
    block = dict(zip(MEASURES, (ms, energy, carbon), strict=True))
    kb = np.array([_payload_kb(graph, chain), *(cut.wire_bytes(wire) / BYTES_PER_KB for cut in cuts)])
    return Problem(
        nodes=tuple(node.name for node in chain.nodes),
        boundaries=("input", *(cut.name for cut in cuts), "output"),
        block={name: np.where(runnable, values, np.inf) for name, values in block.items()},
        crossing=_crossing(chain, kb),
        crossing_kb=kb,
        refused=refused,
    )


def _payload_kb(graph: Graph, chain: Chain) -> float:
    if chain.payload_kb is not None:
        return chain.payload_kb
    sizes = [
        graph.tensors[name].elements * np.dtype(graph.tensors[name].dtype).itemsize for name in graph.inputs
    ]
    return sum(sizes) / BYTES_PER_KB


def _ms_per_cost(node: ComputeNode, costs: Costs) -> float:
    if costs.total <= 0:
        raise InputError(f"All operations cost 0 ({costs.note}); take other --costs.")
    if node.whole_model_ms is not None:
        return node.whole_model_ms / costs.total
    if node.speed is not None and costs.kind == "measured":
        return 1.0 / node.speed
    if node.gmac_per_s is not None and costs.kind == "macs":
        return MS_PER_S / (1e9 * node.gmac_per_s)
    given, wanted = ("speed", "measured") if node.speed is not None else ("gmac_per_s", "macs")
    raise InputError(
        f"nodes: {node.name} has a {given}, which goes with --costs {wanted}, and the costs are {costs.kind}. Give "
        "whole_model_ms, which goes with all of them, or other --costs."
    )


def _runnable(graph: Graph, last: list[int], chain: Chain) -> tuple[np.ndarray, tuple[str, ...]]:
    """Whether each block can run on each node (B, N), and why not."""
    runnable = np.ones((len(last), len(chain.nodes)), bool)
    block = np.searchsorted(last, np.arange(len(graph.operations)))
    refused = []
    for k, node in enumerate(chain.nodes):
        reasons = []
        if node.max_opset is not None and graph.opset > node.max_opset:
            reasons.append(f"opset {graph.opset}, it knows up to {node.max_opset}")
            runnable[:, k] = False
        for number, operation in enumerate(graph.operations):
            own = operation.domain == "" or operation.domain in node.domains
            if not own or (node.operators is not None and operation.kind not in node.operators):
                runnable[block[number], k] = False
                reasons.append(f"{operation.kind} ({operation.name})")
        refused.append("; ".join(dict.fromkeys(reasons)) if len(reasons) < 4 else _shortened(reasons))
    return runnable, tuple(refused)


def _shortened(reasons: list[str]) -> str:
    return f"{'; '.join(reasons[:3])} and {len(reasons) - 3} more"


def _crossing(chain: Chain, kb: F64) -> dict[str, F64]:
    """By measure (B, N, N)."""
    count = len(chain.nodes)
    tables = {name: np.full((len(kb), count, count), np.inf) for name in MEASURES}
    for start in range(count):
        for end in range(start + 1, count):
            way = _way(chain, start, end)
            if way is None:
                continue
            steps = [_step(chain, link, kb) for link in way]
            for name in MEASURES:
                tables[name][:, start, end] = sum(step[name] for step in steps)
    return tables


def _way(chain: Chain, start: int, end: int) -> list[Connection] | None:
    """The link of a pair, else those of the neighbours in between; None where one is missing."""
    known = {(link.start, link.end): link for link in chain.links}
    names = [node.name for node in chain.nodes]
    if (names[start], names[end]) in known:
        return [known[names[start], names[end]]]
    way = [known.get(pair) for pair in zip(names[start:end], names[start + 1 : end + 1], strict=True)]
    return None if None in way else [link for link in way if link is not None]


def _step(chain: Chain, link: Connection, kb: F64) -> dict[str, F64]:
    sending_ms = kb * ms_per_kb(link.rate_mbps)
    start = next(node for node in chain.nodes if node.name == link.start)
    network_j = kb * network_energy_j(1.0, link.energy_nj_per_bit)
    radio_j = sending_ms * S_PER_MS * (link.transmit_power_w or 0.0) * start.pue
    carbon = network_j * carbon_mg(1.0, link.carbon_g_per_kwh) + radio_j * carbon_mg(
        1.0, start.carbon_g_per_kwh
    )
    return {"latency_ms": sending_ms + link.rtt_ms, "energy_j": network_j + radio_j, "carbon_mg": carbon}
