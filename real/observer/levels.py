"""Believed wait and batch of each node by load level, for the site file.

Making them ticks through minutes of other tenants' requests: about a second a node where numba is, a minute where it
is not. So `calibrate` makes them once, and the device reads them from the site file.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping

from ...envs.schema import Node, Scenario
from ..site_file import NodeLevels, SiteFile

VERSION = 1  # of how the levels are made; another one means that those in site files are out of date

log = logging.getLogger(__name__)


def node_sha256(node: Node) -> str:
    """Hash of all that a node's levels follow from; whether it is there at all is not part of that."""
    there = node.model_copy(update={"availability": None})
    text = f"{VERSION} {there.model_dump_json(by_alias=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def node_levels(scenario: Scenario) -> dict[str, NodeLevels]:
    """Make the levels of every node; slow without numba."""
    return {name: _levels(node) for name, node in scenario.nodes.items()}


def _levels(node: Node) -> NodeLevels:
    if node.background is None:  # nobody else is there: no wait is believed, and a batch of one
        return NodeLevels(node_sha256=node_sha256(node), load=[0.0], wait_ms=[0.0], batch=[1.0])
    from ...envs.node_bank import bank_for  # late: it loads numba where that is installed

    bank = bank_for(node)
    return NodeLevels(
        node_sha256=node_sha256(node),
        load=bank.levels.tolist(),
        wait_ms=bank.mean_wait_ms.tolist(),
        batch=bank.mean_batch.tolist(),
    )


def current_levels(scenario: Scenario, kept: Mapping[str, NodeLevels]) -> dict[str, NodeLevels]:
    """The levels that were kept, and new ones, with a warning, for nodes whose numbers have changed since."""
    found = {}
    for name, node in scenario.nodes.items():
        levels = kept.get(name)
        if levels is None or levels.node_sha256 != node_sha256(node):
            why = "missing" if levels is None else "of other numbers than the scenario's"
            log.warning(
                "provenance.node_levels.%s is %s: made again, which may take a minute. "
                "Run `carbonpilot calibrate` to keep them.",
                name,
                why,
            )
            levels = _levels(node)
        found[name] = levels
    return found


def site_levels(site: SiteFile) -> dict[str, NodeLevels]:
    """The levels of a site file; see `current_levels`."""
    return current_levels(site.scenario, site.provenance.node_levels)
