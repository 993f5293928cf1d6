"""Nodes that are not there: what telemetry shows of them, and which of a scenario's nodes never are.

Plain values, without a random stream: the simulator's telemetry and the device's observer show the very same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import nearest
from .observation import ObservationTable
from .schema import Scenario

ABSENT_LOAD = 1.0  # what an absent node seems to report: it is full


def shown_of_absent(node: str, table: ObservationTable) -> dict[str, float]:
    """Value of each feature that tells of an absent node: the dirtiest grid, the oldest report, and full load."""
    high = {
        name: table.features[table.index[name]].high
        for name in (f"{node}_carbon_g_per_kwh", f"{node}_load_age_s")
        if name in table.index
    }
    load = f"{node}_load"
    return {**high, load: ABSENT_LOAD} if load in table.index else high


def absent_latency_ms(placement: str, table: ObservationTable) -> float:
    """Believed latency of an absent node's placement: the top of the table's range."""
    return table.features[table.index[f"{placement}_latency_ms"]].high


def always_absent(scenario: Scenario) -> tuple[str, ...]:
    """Nodes that are there in no episode."""
    return tuple(
        name
        for name, node in scenario.nodes.items()
        if node.availability is not None and node.availability.probability == 0.0
    )


def links_in_use(scenario: Scenario) -> tuple[str, ...]:
    """Links but those that lead to absent nodes only."""
    gone = always_absent(scenario)
    ends = {name: [n for n, node in scenario.nodes.items() if node.link == name] for name in scenario.links}
    return tuple(name for name, nodes in ends.items() if not nodes or any(n not in gone for n in nodes))


def zones_in_use(scenario: Scenario) -> tuple[str, ...]:
    """Zones that something draws power from: the device, nodes that are there, networks of links in use."""
    gone = always_absent(scenario)
    zones = [scenario.device.zone]
    zones += [node.zone for name, node in scenario.nodes.items() if name not in gone]
    zones += [scenario.links[name].network_zone for name in links_in_use(scenario)]
    return tuple(sorted(set(zones)))


def without_nodes(scenario: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A scenario as plain data in which some nodes are in no episode; the given one stays as it is."""
    gone = set(names)
    nodes = {
        name: {**spec, "availability": {"probability": 0.0}} if name in gone else spec
        for name, spec in scenario["nodes"].items()
    }
    return {**scenario, "nodes": nodes}


def scenario_of_site(content: Mapping[str, Any]) -> Any:
    """The scenario in a site file's content, as plain data: nodes of which its deployment names no server are absent.

    What is broken stays as it is, for the check that follows.

    Raises:
        ValueError: a server is of no node of the scenario; a node that is misspelt must not pass for an absent one.
    """
    scenario, deployment = content.get("scenario", {}), content.get("deployment")
    nodes = scenario.get("nodes") if isinstance(scenario, dict) else None
    servers = deployment.get("servers") if isinstance(deployment, dict) else None
    if not isinstance(nodes, dict) or not isinstance(servers, dict):
        return scenario
    for name in servers:
        if name not in nodes:
            raise ValueError(
                f"deployment.servers: '{name}' is not in the scenario.{nearest(name, nodes)} Needed: {list(nodes)}"
            )
    gone = [name for name, spec in nodes.items() if name not in servers and isinstance(spec, dict)]
    return without_nodes(scenario, gone) if gone else scenario
