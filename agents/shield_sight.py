"""Where the shield finds what it needs in an observation vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..envs.beliefs import device_shares
from ..envs.observation import build_table
from ..envs.schema import LOCAL, Scenario

_greater_equal, _less_equal = np.greater_equal, np.less_equal

MOST_TOLD = 4  # features named of a bad observation

Where = tuple[int, float]  # position in the vector, and scale


class Bounds:
    """Lower and upper bounds of a vector's numbers."""

    def __init__(self, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> None:
        """Of each number (F,)."""
        self.low, self.high = low, high
        self._shape, count = low.shape, len(low)
        self._flags = bytearray(2 * count)
        self._above = np.frombuffer(self._flags, np.bool_)[:count]
        self._below = np.frombuffer(self._flags, np.bool_)[count:]

    def hold(self, vector: npt.NDArray[np.float32]) -> bool:
        """Whether one vector (F,) holds only numbers within them."""
        if vector.shape != self._shape:
            return False
        _greater_equal(vector, self.low, self._above)  # a NaN is neither
        _less_equal(vector, self.high, self._below)
        return 0 not in self._flags


class ShieldSight:
    """Positions and scales of the features that the guards read; made once for a scenario.

    Attributes:
        bounds: of the vector, by the table.
        latency, carbon: of each placement (P,).
        node_of, link_of: numbers of each placement's node and link (P,); node 0 is the device, link -1 none.
        device_share: what each placement keeps the device busy for, as a share of a whole frame there (P,).
        probe_age: of each link (L,). load_age: of each node but the device, None where nothing is reported (K - 1,).
        outstanding, last_latency: of each node but the device (K - 1,).
        feed_age, gap, device_backlog, spent, progress: of the request.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Look every feature up in the scenario's table."""
        table = build_table(scenario)
        self.scenario, self.bounds = scenario, Bounds(table.low, table.high)
        self._names, self._scale = table.names, table.scale

        def where(name: str) -> Where:
            return table.index[name], table.features[table.index[name]].scale

        nodes, links = list(scenario.nodes), list(scenario.links)
        self.latency = [where(f"{p.name}_latency_ms") for p in scenario.placements]
        self.carbon = [where(f"{p.name}_carbon_mg") for p in scenario.placements]
        self.node_of = [0 if p.node == LOCAL else 1 + nodes.index(p.node) for p in scenario.placements]
        self.device_share = device_shares(scenario).tolist()
        self.link_of_node = [links.index(node.link) for node in scenario.nodes.values()]
        self.link_of = [-1 if k == 0 else self.link_of_node[k - 1] for k in self.node_of]
        self.probe_age = [where(f"{name}_probe_age_s") for name in links]
        self.load_age = [
            where(f"{name}_load_age_s") if node.background is not None else None
            for name, node in scenario.nodes.items()
        ]
        self.outstanding = [where(f"{name}_outstanding_ms") for name in nodes]
        self.last_latency = [where(f"{name}_last_latency_ms") for name in nodes]
        self.feed_age, self.gap = where("feed_age_h"), where("gap_ms")
        self.device_backlog = where("device_backlog_ms")
        self.spent, self.progress = where("slo_budget_spent"), where("progress")
        self.requests = scenario.episode.requests
        self.miss_budget = max(1.0, (1.0 - scenario.slo.quantile) * self.requests)  # as `site_record`

    def sound(self, observation: npt.NDArray[np.float32]) -> bool:
        """Whether one vector (F,) holds only numbers within the bounds of their rows."""
        return self.bounds.hold(observation)

    def what_is_wrong(self, observation: npt.NDArray[np.float32]) -> str:
        """The features of a vector that is not `sound`, with their values in their units."""
        low, high = self.bounds.low, self.bounds.high
        if observation.shape != low.shape:
            return f"{observation.shape} numbers instead of {low.shape}"
        within = (observation >= low) & (observation <= high)
        bad = np.flatnonzero(~within)
        told = [f"{self._names[i]} = {observation[i] * self._scale[i]:g}" for i in bad[:MOST_TOLD].tolist()]
        return ", ".join(told) + (f" and {len(bad) - MOST_TOLD} more" if len(bad) > MOST_TOLD else "")

    def sound_rows(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """The same for each of a batch (B, F)."""
        return np.all((observations >= self.bounds.low) & (observations <= self.bounds.high), axis=1)

    def believed_ms(self, values: Sequence[float], placement: int) -> float:
        """Believed latency of a placement in a vector, ms."""
        i, scale = self.latency[placement]
        return values[i] * scale
