"""A scenario worked out: names, row layout, node histories, transfer tables."""

from __future__ import annotations

from .node_bank import NodeBank, bank_for
from .observation import ObservationTable, build_table
from .rows import RowLayout
from .schema import LOCAL, Scenario
from .schema_links import Transfer
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
        self.transfers: list[TransferTable | None] = [
            _table(link.transfer) for link in scenario.links.values()
        ]


def _table(transfer: Transfer) -> TransferTable | None:
    if transfer.congestion_control is None:
        return None
    return transfer_table(transfer.congestion_control, transfer.jitter_share)
