"""`carbonpilot partition`; imports what it needs when called, so ``--help`` is quick."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...envs.errors import InputError
from ...envs.options import JsonFile, Traces

if TYPE_CHECKING:
    from ...envs.schema import Scenario
    from .costs import Costs
    from .cuts import Cut
    from .graph import Graph
    from .nodes import Chain
    from .result import Partition


class Objective(str, enum.Enum):
    """What a plan is to be best in."""

    latency = "latency"
    energy = "energy"
    carbon = "carbon"
    balance = "balance"
    green = "green"


class CostKind(str, enum.Enum):
    """What operations cost."""

    eq5 = "eq5"
    macs = "macs"
    measured = "measured"


class WireName(str, enum.Enum):
    """How activations cross."""

    float32 = "float32"
    float16 = "float16"
    uint8 = "uint8"


def partition(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The whole model.")],
    nodes: Annotated[
        Path | None, typer.Option(metavar="NODES.yaml", help="Nodes and links (docs/partition.md).")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Take nodes, links and grids of a scenario instead."),
    ] = None,
    known_as: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="MODEL", help="Which of the scenario's models this is (default: by its name)."
        ),
    ] = None,
    objective: Annotated[Objective, typer.Option(help="What the plan is to be best in.")] = Objective.latency,
    slo_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS", help="Latency that a plan of least energy or carbon must keep, without queues."
        ),
    ] = None,
    costs: Annotated[CostKind, typer.Option(help="What operations cost.")] = CostKind.macs,
    threads: Annotated[int, typer.Option(min=1, help="Of an operation, for measured costs.")] = 1,
    wire: Annotated[WireName, typer.Option(help="How activations cross.")] = WireName.float32,
    cuts: Annotated[bool, typer.Option("--cuts", help="List all cuts; needs no nodes.")] = False,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it as PNG there.")] = None,
    placements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write placements for a scenario as YAML.")
    ] = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="For --placements: these, instead of each node's best."),
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="For --placements with --nodes: the model's.")
    ] = None,
    traces: Traces = None,
) -> None:
    """Share a model out over nodes: where to cut it, and what that comes to beside the whole model on each node.

    Example: carbonpilot partition mobilenetv2.onnx --nodes nodes.yaml --objective carbon --slo-ms 150 --plot plan.png
    """
    from ...envs.console import table_console
    from ...envs.files import atomic_write_text, check_output_file, write_json
    from ..provenance import command_line
    from .cuts import need_cuts
    from .graph import read_graph
    from .tables import WIDTH, cut_table, plan_table

    for file in (json_file, plot, placements):
        if file is not None:
            check_output_file(file)
    if plot is not None:
        from ..plots import require_matplotlib

        require_matplotlib()
    graph = read_graph(model)
    found = need_cuts(graph)
    site, chain, name = _nodes(graph, nodes, scenario, known_as, traces, needed=not cuts)
    priced = _priced(graph, costs, threads)
    typer.echo(f"{model.name}: {len(graph.operations)} operations, {len(found)} cuts; costs: {priced.note}")
    console = table_console(WIDTH)
    if cuts:
        console.print(cut_table(graph, found, priced), highlight=False)
    if chain is None:
        return
    from .result import LIMITED, as_json
    from .result import partition as plan

    if slo_ms is None and objective.value in LIMITED:
        slo_ms = chain.slo_ms
    result = plan(
        graph, found, priced, chain,
        wire=wire.value, objective=objective.value, slo_ms=slo_ms,
    )  # fmt: skip
    console.print(plan_table(result), highlight=False)
    for node, why in zip(result.problem.nodes, result.problem.refused, strict=True):
        if why:
            typer.echo(f"- {node} cannot run {why}")
    if json_file is not None:
        write_json(json_file, as_json(result, command_line(), _sha256(model)))
        typer.echo(f"wrote {json_file}")
    if plot is not None:
        from .plot import write_plot

        typer.echo(f"wrote {write_plot(result, plot)}")
    if placements is not None:
        atomic_write_text(placements, _placements(result, site, name, cut or [], accuracy))
        typer.echo(f"wrote {placements}")


def _nodes(
    graph: Graph,
    nodes: Path | None,
    scenario: str | None,
    known_as: str | None,
    traces: Path | None,
    needed: bool,
) -> tuple[Scenario | None, Chain | None, str]:
    """The scenario, the nodes, and the model's name."""
    from ...envs.model_card import METADATA_KEY, card_model

    name = known_as or card_model(graph.metadata.get(METADATA_KEY), str(graph.path)) or graph.path.stem
    if (nodes is None) == (scenario is None):
        if nodes is None and not needed:
            return None, None, name
        raise InputError("Give --nodes FILE or --scenario NAME; or --cuts to list the cuts alone.")
    if nodes is not None:
        from .nodes import read_chain

        return None, read_chain(nodes), name
    from ...envs.scenario import load_scenario
    from .site import chain_of_scenario

    assert scenario is not None
    site = load_scenario(scenario, traces=traces is not None)
    return site, chain_of_scenario(site, name, traces), name


def _priced(graph: Graph, kind: CostKind, threads: int) -> Costs:
    from .costs import eq5_costs, mac_costs

    if kind is not CostKind.measured:
        return (eq5_costs if kind is CostKind.eq5 else mac_costs)(graph)
    from ...envs.console import progress
    from .measure import measured_costs

    with progress("measuring") as report:
        return measured_costs(graph, threads, report=report)


def _placements(
    result: Partition, site: Scenario | None, name: str, wanted: list[str], accuracy: float | None
) -> str:
    """The whole model's placements and the split ones."""
    from ...envs.schema import LOCAL
    from .cuts import find_cut
    from .placements import head_share, placements_of_chain, placements_yaml, split_of_placement

    if site is not None:
        from .site import whole_placements

        placed = whole_placements(site, name)
    elif accuracy is None:
        raise InputError(
            "--placements with --nodes needs --accuracy PERCENT: a scenario's placements tell the model's."
        )
    else:
        placed = placements_of_chain(result.problem, result.chain, name, accuracy)
    rows = list(placed.values())
    for node, whole in placed.items():
        if node == LOCAL:
            continue
        chosen = [find_cut(result.cuts, given, result.graph.path) for given in wanted] or _best(result, node)
        rows += [
            split_of_placement(placed[LOCAL], whole, c, head_share(result.costs, c), result.wire)
            for c in chosen
        ]
    note = (
        f"{result.graph.path.name}: shares of time and energy by {result.costs.note}; activations as {result.wire}. "
        "Written by carbonpilot partition."
    )
    return placements_yaml(rows, note)


def _best(result: Partition, node: str) -> list[Cut]:
    """The cut that is best by the objective with one part on the device and one on the node; both cost something."""
    from .placements import head_share
    from .plan import evaluate
    from .result import OBJECTIVES

    measure = OBJECTIVES.get(
        result.objective, "bottleneck_ms" if result.objective == "balance" else "carbon_mg"
    )
    number, last = result.problem.nodes.index(node), result.problem.blocks
    worth = []
    for b, cut in enumerate(result.cuts, start=1):
        ends = tuple(b if k < number else last for k in range(len(result.problem.nodes)))
        value = getattr(evaluate(result.problem, ends), measure)
        if value < float("inf") and 0.0 < head_share(result.costs, cut) < 1.0:
            worth.append((value, b))
    return [result.cuts[min(worth)[1] - 1]] if worth else []


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
