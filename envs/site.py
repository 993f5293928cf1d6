"""A scenario worked out: names, row layout, node histories, transfer tables."""

from __future__ import annotations

from .node_bank import NodeBank, bank_for
from .observation import ObservationTable, build_table
from .rows import RowLayout
from .schema import LOCAL, Scenario
from .transfer.table import TransferTable, transfer_table


class Site:
    """Everything about a scenario that is the same in every episode and arithmetic."""

    def __init__(self, scenario: Scenario) -> None:
        """Work the scenario's numbers out once."""
        self.scenario = scenario
        self.table: ObservationTable = build_table(scenario)
        self.rows = RowLayout(scenario, self.table)
        self.node_names = [LOCAL, *scenario.nodes]
        self.link_names = list(scenario.links)
        self.placement_names = [p.name for p in scenario.placements]
        self.banks: list[NodeBank | None] = [None] + [bank_for(n) for n in scenario.nodes.values()]
        controls = {link.transfer.congestion_control for link in scenario.links.values()}
        tables = {cc: transfer_table(cc) for cc in sorted(c for c in controls if c is not None)}
        self.transfers: list[TransferTable | None] = [
            tables.get(link.transfer.congestion_control or "") for link in scenario.links.values()
        ]
