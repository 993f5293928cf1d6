"""A scenario's numbers as the record `SITE`, for the physics and for the device's observer."""

from __future__ import annotations

import numpy as np

from .records import SITE
from .rows import RowLayout
from .schema import ClosedLoop, Scenario
from .units import MS_PER_S

_ROWS = {
    "row_rtt": "rtt_ms",
    "row_jitter": "jitter_ms",
    "row_ms_per_kb": "ms_per_kb",
    "row_blocked": "blocked_until_ms",
    "row_path": "path",
    "row_network_grid": "network_carbon_mg_per_j",
    "row_level": "level",
    "row_grid": "carbon_mg_per_j",
    "row_believed": "believed_ms",
    "row_believed_rate": "believed_ms_per_kb",
}


def site_record(scenario: Scenario, rows: RowLayout) -> np.recarray:
    """A scenario as a record `SITE` (1,)."""
    sites = np.zeros(1, SITE).view(np.recarray)
    s = sites[0]
    s.slo_ms, s.requests = scenario.slo.latency_ms, scenario.episode.requests
    s.slowdown = 1.0
    if (throttling := scenario.device.throttling) is not None:
        s.throttling, s.slowdown = 1.0, throttling.slowdown
        s.time_constant_ms = throttling.time_constant_s * MS_PER_S
        s.hot, s.cool = throttling.hot_utilisation, throttling.cool_utilisation
    if (radio := scenario.device.radio) is not None:
        s.radio, s.tail_ms = 1.0, radio.tail_s * MS_PER_S
        s.transmit_w, s.tail_w = radio.transmit_power_w, radio.tail_power_w
    s.idle_w = scenario.device.idle_power_w
    s.best_miou = max(p.accuracy_miou for p in scenario.placements)
    s.miss_budget = max(1.0, (1.0 - scenario.slo.quantile) * scenario.episode.requests)
    s.marginal = int(scenario.account == "marginal")
    s.request_clock = int(scenario.world_clock == "request")
    s.closed_loop = int(isinstance(scenario.arrivals, ClosedLoop))
    s.links, s.nodes, s.placements = len(scenario.links), 1 + len(scenario.nodes), len(scenario.placements)
    for field, kind in _ROWS.items():
        s[field] = rows.start[kind]
    s.row_features, s.features = rows.world, rows.count - rows.world
    return sites
