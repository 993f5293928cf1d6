"""Draws of what departs from the believed numbers in an episode: factors, silent feeds, absent nodes.

Each has a random stream of its own, so a scenario without it has the very same tapes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .absence import absent_latency_ms, shown_of_absent
from .link_sources import LinkRows
from .observation import ObservationTable
from .rows import RowLayout
from .schema import SameZone, Scenario
from .schema_shift import Factor, Shift
from .streams import Stream
from .world_types import F32

Keys = npt.NDArray[np.uint64]
Absent = dict[str, npt.NDArray[np.bool_]]


def draw_factor(scenario: Scenario, name: str, keys: Keys) -> F32 | None:
    """The factor of this name in each episode (B,); None where the scenario has none."""
    spec = None if scenario.shift is None else getattr(scenario.shift, name)
    if spec is None:
        return None
    assert isinstance(spec, Factor)
    low, high = np.float32(spec.low), np.float32(spec.high)
    stream = Stream(keys, f"shift:{name}")
    drawn = low + (high - low) * stream.uniform()
    if spec.probability >= 1:
        return drawn
    return np.where(stream.uniform() < np.float32(spec.probability), drawn, np.float32(spec.otherwise))


def lowest_rate_factor(scenario: Scenario) -> float:
    """The slowest that requests can come, as a share of the declared rate; never above one."""
    shift = scenario.shift or Shift()
    return 1.0 if shift.rate_factor is None else min(1.0, shift.rate_factor.least)


def shifted_links(scenario: Scenario, keys: Keys, links: dict[str, LinkRows]) -> dict[str, LinkRows]:
    """Links with their true rate, round trip (jitter with it) and loss; all links by the same factors."""
    rate, rtt, loss = (draw_factor(scenario, f"link_{what}_factor", keys) for what in ("rate", "rtt", "loss"))
    if rate is None and rtt is None and loss is None:
        return links
    out = {}
    for name, link in links.items():
        world = link.world
        if rtt is not None:
            world = replace(world, rtt_ms=world.rtt_ms * rtt, jitter_ms=world.jitter_ms * rtt)
        if loss is not None:
            world = replace(world, loss=np.minimum(world.loss * loss, np.float32(1.0)))
        out[name] = LinkRows(world, link.rate_mbps if rate is None else link.rate_mbps * rate)
    return out


def grid_factors(scenario: Scenario, keys: Keys) -> dict[str, F32]:
    """Factor (B,) of each zone's intensity, for the zones that have one; not for zones that are another."""
    factor = draw_factor(scenario, "grid_factor", keys)
    if factor is None:
        return {}
    assert scenario.shift is not None
    if scenario.shift.grid_of == "all":
        return {name: factor for name, zone in scenario.zones.items() if not isinstance(zone, SameZone)}
    device = scenario.zones[scenario.device.zone]
    return {device.zone if isinstance(device, SameZone) else scenario.device.zone: factor}


def longest_silence_h(scenario: Scenario) -> float:
    """How long feeds can have been silent when an episode starts, h."""
    spec = None if scenario.shift is None else scenario.shift.silent_feed
    return 0.0 if spec is None else spec.high_h


def silent_hours(scenario: Scenario, keys: Keys) -> F32 | None:
    """Since when each episode's feeds have been silent (B,), h; 0 where they are not; None where they never are."""
    spec = None if scenario.shift is None else scenario.shift.silent_feed
    if spec is None:
        return None
    stream = Stream(keys, "shift:silent_feed")
    silent = stream.uniform() < np.float32(spec.probability)
    since = np.float32(spec.low_h) + np.float32(spec.high_h - spec.low_h) * stream.uniform()
    return np.where(silent, since, np.float32(0.0))


def absent_nodes(scenario: Scenario, keys: Keys) -> Absent:
    """Where each node is absent (B,), for the nodes that can be."""
    return {
        name: Stream(keys, f"absent:{name}").uniform() >= np.float32(node.availability.probability)
        for name, node in scenario.nodes.items()
        if node.availability is not None
    }


def allowed_placements(scenario: Scenario, keys: Keys) -> npt.NDArray[np.bool_] | None:
    """Placements whose node is there (P, B); None where every node always is."""
    absent = absent_nodes(scenario, keys)
    if not absent:
        return None
    allowed = np.ones((len(scenario.placements), keys.size), dtype=bool)
    for a, p in enumerate(scenario.placements):
        if p.node in absent:
            allowed[a] = ~absent[p.node]
    return allowed


def hide_reports(shown: dict, absent: Absent, table: ObservationTable) -> None:
    """What telemetry shows of absent nodes: the dirtiest grid and the oldest report of the table, and full load."""
    for name, gone in absent.items():
        for feature, value in shown_of_absent(name, table).items():
            if feature in shown:
                shown[feature] = np.where(gone, np.float32(value), shown[feature])


def hide_beliefs(
    rows: F32, absent: Absent, scenario: Scenario, layout: RowLayout, table: ObservationTable
) -> None:
    """Believed latency of absent nodes' placements: the top of the table's range, in the tape's rows (R, S, B)."""
    for p in scenario.placements:
        if p.node in absent:
            rows[layout[f"{p.name}:believed_ms"]][:, absent[p.node]] = absent_latency_ms(p.name, table)
