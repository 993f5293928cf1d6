"""The rows of the world: which row holds what, so that physics and telemetry find their columns."""

from __future__ import annotations

from .observation import ObservationTable
from .schema import Scenario


class RowLayout:
    """Positions of the second-by-second values of a tape.

    Row 0 is always zero: the device has no link, so its placements read it.
    Truth rows come first, then what the telemetry shows (encoded features, then believed values).
    """

    def __init__(self, scenario: Scenario, table: ObservationTable) -> None:
        """Number the rows of a scenario."""
        names = ["zero"]
        for link in scenario.links:
            names += [f"{link}:rtt_ms", f"{link}:jitter_ms", f"{link}:ms_per_kb", f"{link}:blocked_until_ms"]
            names += [f"{link}:path"]
        names += [f"{node}:level" for node in scenario.nodes]
        names += [f"{zone}:carbon" for zone in scenario.zones]
        self.truth_rows = len(names)
        features = [f.name for f in table.features if f.clock == "second"]
        self.features = slice(len(names), len(names) + len(features))
        names += [f"feature:{name}" for name in features]
        # Believed values that the encoder needs to predict latencies, in physical units.
        names += [f"{p.name}:believed_ms" for p in scenario.placements]
        names += [f"{link}:believed_ms_per_kb" for link in scenario.links]
        self.index = {name: i for i, name in enumerate(names)}
        self.count = len(names)

    def __getitem__(self, name: str) -> int:
        return self.index[name]
