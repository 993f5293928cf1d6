"""Plans and cuts as tables on the terminal."""

from __future__ import annotations

import math

from rich.table import Table

from ...envs.units import BYTES_PER_KB
from .costs import UNITS, Costs
from .cuts import WIRES, Cut
from .graph import Graph
from .plan import Plan
from .result import Partition, words

WIDTH = 160


def plan_table(result: Partition) -> Table:
    """The best plan, and the whole model on each node."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("plan", no_wrap=True)
    for title in ("latency ms", "energy J", "CO2 mg", "crosses kB", "bottleneck ms"):
        table.add_column(title, justify="right", no_wrap=True)
    named = [(f"best {result.objective}: {words(result.problem, result.best)}", result.best)]
    named += [(words(result.problem, plan), plan) for plan in result.wholes]
    for name, plan in named:
        table.add_row(name, *_numbers(plan))
    return table


def _numbers(plan: Plan) -> list[str]:
    if plan.latency_ms == math.inf:
        return ["cannot run"]
    return [
        f"{plan.latency_ms:.2f}",
        f"{plan.energy_j:.4g}",
        f"{plan.carbon_mg:.4g}",
        f"{plan.crossing_kb:.1f}",
        f"{plan.bottleneck_ms:.2f}",
    ]


def cut_table(graph: Graph, cuts: list[Cut], costs: Costs) -> Table:
    """Every cut with what comes before it and what crosses."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("cut", "activation", "after"):
        table.add_column(title, no_wrap=True)
    for title in (
        "shape",
        "operations before",
        f"cost before, % {UNITS[costs.kind]}",
        *(f"{w} kB" for w in WIRES),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    done = costs.values.cumsum()
    for cut in cuts:
        table.add_row(
            cut.name,
            cut.tensor,
            graph.operations[cut.after].kind,
            " x ".join(map(str, cut.shape)),
            str(cut.after + 1),
            f"{100 * done[cut.after] / costs.total:.1f}" if costs.total else "-",
            *(f"{cut.wire_bytes(wire) / BYTES_PER_KB:.1f}" for wire in WIRES),
        )
    return table
