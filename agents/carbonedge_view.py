"""What CarbonEdge's scheduler sees of a site: its node records, from telemetry and from what it believes.

A node of the paper is a placement here. Where its records come from:

| record | here |
|---|---|
| load | the node's report, 0 without one; on the device `device_heat`, the low-pass of its utilisation (1) |
| latency | the believed latency of the placement: link, queue and service as the telemetry lets them appear |
| free resources | free service slots (parallelism x (1 - load)) over the one slot that a request needs |
| average time | the same believed latency: what a task takes on this node as the scheduler sees it |
| task count | own unanswered requests: 1 while the last one sent there is out; on the device, its backlog in tasks |
| intensity | the grid feed's value for the node's zone |
| power | active energy of one request over its mean service time, x PUE |
| execution time | mean service time, since power is drawn only then |

(1) It stays 0 on a device that does not throttle. P x T is the energy of one request served alone: Algorithm 1
knows no batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.observation import build_table
from ..envs.schema import LOCAL, Placement, Scenario
from ..envs.service import mean_ms
from ..envs.units import MS_PER_S
from .carbonedge_score import NodeRecords

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Beliefs:
    """What the scheduler believes of each placement before it has seen anything; arrays (P,).

    Attributes:
        power_w: power while a request executes, PUE included.
        execution_ms: average execution time.
        slots: requests that are served side by side.
        history_ms: average time of a task for S_P, where it shall not follow the believed latency.
    """

    power_w: F64
    execution_ms: F64
    slots: F64
    history_ms: F64 | None = None

    @classmethod
    def of(cls, scenario: Scenario) -> Beliefs:
        """The beliefs that a scenario's own numbers give."""
        execution_ms = np.array([mean_ms(p.service) for p in scenario.placements])
        pue = np.array([1.0 if p.node == LOCAL else scenario.nodes[p.node].pue for p in scenario.placements])
        energy_j = np.array([p.active_energy_j for p in scenario.placements])
        slots = [1 if p.node == LOCAL else scenario.nodes[p.node].parallelism for p in scenario.placements]
        return cls(pue * energy_j / execution_ms * MS_PER_S, execution_ms, np.array(slots, dtype=np.float64))


class NodeView:
    """Reads the node records of a scenario's placements from encoded observations."""

    def __init__(self, scenario: Scenario, beliefs: Beliefs | None = None) -> None:
        """Look up where everything stands.

        Args:
            scenario: the site.
            beliefs: instead of what the scenario's numbers give.
        """
        self.beliefs = Beliefs.of(scenario) if beliefs is None else beliefs
        table, placements = build_table(scenario), scenario.placements
        names = [
            [f"{p.name}_latency_ms" for p in placements],
            [f"{_zone_owner(p)}_carbon_g_per_kwh" for p in placements],
            [_load_feature(p, scenario) for p in placements],
            [_waiting_feature(p) for p in placements],
        ]
        # Positions and scales (4, P), read in one go; a feature that is not there is any one times 0.
        self._at = np.array([[0 if name is None else table.index[name] for name in row] for row in names])
        scales = [
            [0.0 if name is None else table.features[table.index[name]].scale for name in row]
            for row in names
        ]
        self._scale = np.array(scales)
        # A remote request's age is far from this (its feature ends at four objectives), so any age counts as one.
        oldest_ms = 8 * scenario.slo.latency_ms
        self._task_ms = np.array([mean_ms(p.service) if p.node == LOCAL else oldest_ms for p in placements])

    def records(self, observation: npt.NDArray[np.float32]) -> NodeRecords:
        """The records of all placements: (B, F) to arrays (B, P), or (P,) for what does not change."""
        beliefs = self.beliefs
        seen = np.multiply(observation[:, self._at], self._scale, dtype=np.float64)  # (B, 4, P)
        latency_ms, intensity, load, waiting_ms = seen[:, 0], seen[:, 1], seen[:, 2], seen[:, 3]
        return NodeRecords(
            load=load,
            latency_ms=latency_ms,
            free=beliefs.slots * (1.0 - load),
            average_time_ms=latency_ms if beliefs.history_ms is None else beliefs.history_ms,
            task_count=np.ceil(waiting_ms / self._task_ms),
            carbon_g_per_kwh=intensity,
            power_w=beliefs.power_w,
            execution_ms=beliefs.execution_ms,
        )


def _zone_owner(placement: Placement) -> str:
    return "device" if placement.node == LOCAL else placement.node


def _load_feature(placement: Placement, scenario: Scenario) -> str | None:
    if placement.node == LOCAL:
        return "device_heat"
    reports = scenario.nodes[placement.node].background is not None
    return f"{placement.node}_load" if reports else None


def _waiting_feature(placement: Placement) -> str:
    return "device_backlog_ms" if placement.node == LOCAL else f"{placement.node}_outstanding_ms"
