"""What was saved: a frame's carbon against what the two static choices were believed to emit at that moment.

Nobody can know what a placement that was not chosen would have emitted. The comparison is therefore between the carbon
charged to the frame and the belief, at the decision, about the others; a belief that was not known is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...envs.observation import ObservationTable
from ...envs.schema import LOCAL, Scenario
from ..log_records import FrameRecord, Mode

BASELINES = ("always-local", "always-offload")


@dataclass
class Saved:
    """Sums over the frames that could be compared.

    Attributes:
        frames: how many.
        baseline_mg: believed carbon of the baseline for them.
        spent_mg: what they were charged (in shadow mode: what the decided placement was believed to emit).
    """

    frames: int = 0
    baseline_mg: float = 0.0
    spent_mg: float = 0.0

    @property
    def saved_mg(self) -> float:
        """Above 0: less was emitted than by the baseline."""
        return self.baseline_mg - self.spent_mg


@dataclass
class Savings:
    """Adds up frames.

    ``always-offload`` is the allowed remote placement of a whole model with the least believed latency, as a client
    takes it that offloads whenever it can.
    """

    scenario: Scenario
    table: ObservationTable
    mode: Mode
    totals: dict[str, Saved] = field(default_factory=lambda: {name: Saved() for name in BASELINES})

    def __post_init__(self) -> None:
        """Find the features."""
        index, features = self.table.index, self.table.features
        names = [p.name for p in self.scenario.placements]
        self._numbers = {name: a for a, name in enumerate(names)}
        self._local = names[0]
        self._remote = [p.name for p in self.scenario.placements if p.node != LOCAL and p.split is None]
        self._carbon = {name: (index[f"{name}_carbon_mg"], features) for name in names}
        self._latency = {name: index[f"{name}_latency_ms"] for name in names}
        self._scale = self.table.scale.tolist()
        self._high = self.table.high.tolist()

    def add(self, record: FrameRecord) -> None:
        """Take a frame; one without observation, result or known carbon is not compared."""
        spent_mg = self._spent_mg(record)
        if spent_mg is None or record.observation is None:
            return
        for name, placement in (("always-local", self._local), ("always-offload", self._offload(record))):
            believed_mg = None if placement is None else self.believed_mg(record.observation, placement)
            if believed_mg is not None:
                total = self.totals[name]
                total.frames += 1
                total.baseline_mg += believed_mg
                total.spent_mg += spent_mg

    def believed_mg(self, observation: list[float], placement: str) -> float | None:
        """Believed carbon of a placement in an observation; its upper bound stands for unknown."""
        i = self._carbon[placement][0]
        known = 0.0 <= observation[i] < self._high[i]  # nor NaN, which would spoil the sum for good
        return observation[i] * self._scale[i] if known else None

    def _spent_mg(self, record: FrameRecord) -> float | None:
        if record.executed is None or record.observation is None:
            return None
        if self.mode == "shadow":
            return (
                None if record.placement is None else self.believed_mg(record.observation, record.placement)
            )
        return record.carbon_mg_marginal

    def _offload(self, record: FrameRecord) -> str | None:
        assert record.observation is not None
        allowed = [p for p in self._remote if record.mask[self._numbers[p]]]
        seen = record.observation
        return min(allowed, key=lambda p: seen[self._latency[p]], default=None)
