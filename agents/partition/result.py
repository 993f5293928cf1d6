"""A planned partition: what was asked, the plan, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ... import __version__
from ...envs.errors import CarbonPilotError, InputError
from .balance import balanced, green
from .cheapest import cheapest
from .costs import Costs
from .cuts import WIRES, Cut
from .graph import Graph
from .nodes import Chain
from .plan import Plan, whole
from .problem import Problem, build_problem

SCHEMA = "carbonpilot/partition/1"
OBJECTIVES = {"latency": "latency_ms", "energy": "energy_j", "carbon": "carbon_mg"}
LIMITED = ("energy", "carbon")  # objectives that may have to keep a latency
BALANCING = {"balance": balanced, "green": green}


@dataclass(frozen=True)
class Partition:
    """What was planned.

    Attributes:
        graph, cuts, costs: of the model.
        chain: the nodes.
        wire: how activations cross.
        problem: the numbers.
        objective: what the plan is best in.
        slo_ms: latency that it had to keep; None: any.
        best: the plan.
        wholes: the whole model on each node; infinite where it cannot run.
    """

    graph: Graph
    cuts: list[Cut]
    costs: Costs
    chain: Chain
    wire: str
    problem: Problem
    objective: str
    slo_ms: float | None
    best: Plan
    wholes: list[Plan]


def partition(
    graph: Graph,
    cuts: list[Cut],
    costs: Costs,
    chain: Chain,
    *,
    wire: str,
    objective: str,
    slo_ms: float | None,
) -> Partition:
    """Share a model out over nodes.

    Args:
        graph, cuts, costs: of the model.
        chain: the nodes.
        wire: how activations cross.
        objective: latency, energy, carbon, balance or green.
        slo_ms: latency that plans of least energy or carbon must keep.

    Raises:
        InputError: the nodes cannot run the model, or the call makes no sense.
        CarbonPilotError: no plan keeps the latency.
    """
    if slo_ms is not None and objective not in LIMITED:
        raise InputError(f"--slo-ms goes with --objective energy or carbon, and this is {objective}.")
    problem = build_problem(graph, cuts, costs, chain, wire)
    best = _best(problem, objective, slo_ms)
    if best is None:
        raise _no_plan(problem, objective, slo_ms)
    wholes = [whole(problem, k) for k in range(len(chain.nodes))]
    return Partition(graph, cuts, costs, chain, wire, problem, objective, slo_ms, best, wholes)


def _best(problem: Problem, objective: str, slo_ms: float | None) -> Plan | None:
    if objective in BALANCING:
        return BALANCING[objective](problem)
    return cheapest(problem, OBJECTIVES[objective], slo_ms)


def _no_plan(problem: Problem, objective: str, slo_ms: float | None) -> CarbonPilotError:
    quickest = cheapest(problem, "latency_ms")
    if slo_ms is not None and quickest is not None:
        return CarbonPilotError(
            f"No plan keeps {slo_ms:g} ms: the quickest takes {quickest.latency_ms:.1f} ms "
            f"({words(problem, quickest)})."
        )
    cannot = "; ".join(
        f"{n} cannot run {r}" for n, r in zip(problem.nodes, problem.refused, strict=True) if r
    )
    why = cannot or "there is no link from one to the next"
    if objective in BALANCING and quickest is not None:
        return InputError(
            f"Not all of {', '.join(problem.nodes)} can have a part ({why}). Leave a node out, give a link, or take "
            "--objective latency, energy or carbon, which may leave a node empty."
        )
    return InputError(
        f"No node can finish what comes to it: {why}. Give a node that can (operators, domains, max_opset in the nodes "
        "file), or export the model with other operators."
    )


def words(problem: Problem, plan: Plan) -> str:
    """'device to cut-012, then edge', or 'all on edge'."""
    parts = plan.stretches
    if len(parts) == 1:
        return f"all on {problem.nodes[parts[0].node]}"
    said = [f"{problem.nodes[p.node]} to {problem.boundaries[p.last]}" for p in parts[:-1]]
    return ", ".join(said) + f", then {problem.nodes[parts[-1].node]}"


def as_json(result: Partition, command: str, model_sha256: str) -> dict[str, Any]:
    """The result for programs."""
    problem = result.problem
    shares = result.costs.of_blocks([*(cut.after for cut in result.cuts), len(result.graph.operations) - 1])
    done = shares.cumsum() / result.costs.total
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "command": command,
        "model": {
            "file": result.graph.path.name,
            "sha256": model_sha256,
            "operations": len(result.graph.operations),
        },
        "costs": {"kind": result.costs.kind, "total": result.costs.total, "note": result.costs.note},
        "wire": result.wire,
        "objective": result.objective,
        "slo_ms": result.slo_ms,
        "chain": result.chain.model_dump(by_alias=True, exclude_none=True),
        "payload_kb": float(problem.crossing_kb[0]),
        "cuts": [
            {
                "cut": cut.name,
                "tensor": cut.tensor,
                "shape": list(cut.shape),
                "operation": result.graph.operations[cut.after].kind,
                "operations_before": cut.after + 1,
                "cost_share_before": float(share),
                "bytes": {wire: cut.wire_bytes(wire) for wire in WIRES},
            }
            for cut, share in zip(result.cuts, done[:-1], strict=True)
        ],
        "plans": {
            "best": _plan_json(problem, result.best),
            **{
                f"whole-{n}": _plan_json(problem, p)
                for n, p in zip(problem.nodes, result.wholes, strict=True)
            },
        },
    }


def _plan_json(problem: Problem, plan: Plan) -> dict[str, Any]:
    """None for what cannot run: infinities are not JSON."""
    numbers = ("latency_ms", "energy_j", "carbon_mg", "bottleneck_ms", "crossing_ms", "crossing_kb")
    runs = plan.latency_ms < float("inf")
    return {
        "what": words(problem, plan),
        "stretches": [
            {
                "node": problem.nodes[part.node],
                "from": problem.boundaries[part.first],
                "to": problem.boundaries[part.last],
                "compute_ms": float(problem.block["latency_ms"][part.first : part.last, part.node].sum())
                if runs
                else None,
            }
            for part in plan.stretches
        ],
        **{name: getattr(plan, name) if runs else None for name in numbers},
    }
