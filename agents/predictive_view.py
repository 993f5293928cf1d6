"""The observation by placement, by link and by request, as arrays with episodes last, in their own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.beliefs import device_shares
from ..envs.observation import build_table
from ..envs.schema import LOCAL, Scenario

Floats = npt.NDArray[np.floating]

# Features of the placement itself, of its link, of its node; {} stands for the name.
_OF_PLACEMENT = ("{}_latency_ms", "{}_carbon_mg")
_OF_LINK = (
    "{}_rtt_ms",
    "{}_rtt_last_ms",
    "{}_rtt_deviation_ms",
    "{}_loss_pct",
    "{}_uplink_mbps",
    "{}_probe_age_s",
    "{}_backlog_ms",
    "{}_sent_mbps",
    "{}_sent_age_s",
)
_OF_NODE = ("{}_load", "{}_outstanding_ms", "{}_last_latency_ms", "{}_last_answer_age_s")
_OF_REQUEST = (
    "device_carbon_g_per_kwh",
    "payload_kb",
    "gap_ms",
    "device_heat",
    "device_throttled",
    "device_backlog_ms",
    "radio_tail_s",
    "slo_budget_spent",
    "recent_miss_rate",
    "progress",
)


@dataclass(frozen=True)
class View:
    """One decision of a batch; fields named as the features, without the name of link, node or placement.

    By placement (P, B), zero where it has no node: `latency_ms`, `carbon_mg`, `load`, `outstanding_ms`,
    `last_latency_ms`, `last_answer_age_s`. By link (L, B), a row of zeros without one: `rtt_ms`, `rtt_last_ms`,
    `rtt_deviation_ms`, `loss_pct`, `uplink_mbps`, `probe_age_s`, `backlog_ms`, `sent_mbps`, `sent_age_s`.
    By request (B,): the others.
    """

    latency_ms: Floats
    carbon_mg: Floats
    load: Floats
    outstanding_ms: Floats
    last_latency_ms: Floats
    last_answer_age_s: Floats
    rtt_ms: Floats
    rtt_last_ms: Floats
    rtt_deviation_ms: Floats
    loss_pct: Floats
    uplink_mbps: Floats
    probe_age_s: Floats
    backlog_ms: Floats
    sent_mbps: Floats
    sent_age_s: Floats
    device_carbon_g_per_kwh: Floats
    payload_kb: Floats
    gap_ms: Floats
    device_heat: Floats
    device_throttled: Floats
    device_backlog_ms: Floats
    radio_tail_s: Floats
    slo_budget_spent: Floats
    recent_miss_rate: Floats
    progress: Floats


class PlacementView:
    """Takes encoded observations (B, F) apart; episodes lie along the last axis, so parameters (B,) broadcast.

    Attributes:
        remote: whether a placement is not on the device, or not wholly (P, 1).
        device_share: what it keeps the device busy for, as a share of a whole frame there (P, 1).
        crossing_kb: what the split placements send instead of the payload, by number of the placement.
        nodes: node of each placement, None for the device.
        links: how many links there are.
        link_of: number of each placement's link (P,); 0 for the device, which has none.
    """

    def __init__(self, scenario: Scenario) -> None:
        """Find the column and the scale of every feature."""
        table = build_table(scenario)
        places = scenario.placements
        self.nodes = [None if p.node == LOCAL else p.node for p in places]
        over = [None if node is None else scenario.nodes[node].link for node in self.nodes]
        names: list[str | None] = list(dict.fromkeys(link for link in over if link is not None))
        self.links = len(names)
        self.link_of = np.array([0 if link is None else names.index(link) for link in over])
        self.remote = np.array([node is not None for node in self.nodes])[:, None]
        self.device_share = device_shares(scenario).astype(np.float32)[:, None]
        self.crossing_kb = {a: p.split.activation_kb for a, p in enumerate(places) if p.split is not None}
        groups = (
            (_OF_PLACEMENT, [p.name for p in places]),
            (_OF_NODE, self.nodes),
            (_OF_LINK, names or [None]),
        )
        wanted = [
            None if name is None else pattern.format(name)
            for patterns, owners in groups
            for pattern in patterns
            for name in owners
        ]
        # What does not exist reads some column and is multiplied by zero.
        positions = [-1 if name is None else table.index.get(name, -1) for name in [*wanted, *_OF_REQUEST]]
        self._columns = np.maximum(positions, 0)
        scales = [table.features[i].scale if i >= 0 else 0.0 for i in positions]
        self._scales = np.array(scales, np.float32)[:, None]
        self._shapes = [(len(patterns), len(owners)) for patterns, owners in groups]

    def of(self, observation: npt.NDArray[np.float32]) -> View:
        """Take a batch of observations (B, F) apart."""
        values = np.ascontiguousarray(observation.T)[self._columns]
        values *= self._scales
        arrays: list[Any] = []
        start = 0
        for fields, owners in self._shapes:
            block = values[start : start + fields * owners]
            arrays += list(block.reshape(fields, owners, -1))
            start += fields * owners
        return View(*arrays, *values[start:])
