"""The rows of the world: which row holds what, so that physics and telemetry find their columns.

Truth comes first, grouped so that one handle reads all of a link's (or node's) values: the rows
``start[kind] + i`` hold value ``kind`` of link or node i. Then come the believed values
that predictions are made from, and the encoded telemetry features.
"""

from __future__ import annotations

from .observation import ObservationTable
from .schema import LOCAL, Scenario

LINK_ROWS = ("rtt_ms", "jitter_ms", "ms_per_kb", "blocked_until_ms", "path", "network_carbon_mg_per_j")
NODE_ROWS = ("level", "carbon_mg_per_j")


class RowLayout:
    """Positions of the second-by-second values of a tape."""

    def __init__(self, scenario: Scenario, table: ObservationTable) -> None:
        """Number the rows of a scenario."""
        names: list[str] = []
        self.start: dict[str, int] = {}
        for kinds, owners in ((LINK_ROWS, list(scenario.links)), (NODE_ROWS, [LOCAL, *scenario.nodes])):
            for kind in kinds:
                self.start[kind] = len(names)
                names += [f"{owner}:{kind}" for owner in owners]
        self.start["believed_ms"] = len(names)
        names += [f"{p.name}:believed_ms" for p in scenario.placements]
        self.start["believed_ms_per_kb"] = len(names)
        names += [f"{link}:believed_ms_per_kb" for link in scenario.links]
        self.world = len(names)  # rows that physics and predictions read
        names += [f"feature:{f.name}" for f in table.features if f.clock == "second"]
        self.index = {name: i for i, name in enumerate(names)}
        self.count = len(names)

    def __getitem__(self, name: str) -> int:
        return self.index[name]
