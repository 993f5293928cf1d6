"""A proof that one placement emits least whatever happens: interval arithmetic over all that a scenario spans.

Every intensity, batch, payload and link is taken at its worst for the claim, so the claim holds without any average.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..envs.schema import ClosedLoop, Periodic, PhasedLink, Scenario
from ..envs.units import BITS_PER_BYTE, MS_PER_S
from .breakeven_costs import Account, Terms
from .breakeven_world import World


class _Joules(NamedTuple):
    """Least and largest energy by zone, J."""

    low: dict[str, float]
    high: dict[str, float]


def proven_best(scenario: Scenario, terms: list[Terms], world: World, account: Account) -> str | None:
    """The placement that never emits more than another, at any intensity, batch, payload and link; None if unproven.

    In a closed loop the gaps between requests follow from the placements, so nothing is proven there for the
    attributional account where anything draws idle power.
    """
    closed = isinstance(scenario.arrivals, ClosedLoop)
    if account == "attributional" and closed and any(t.device_idle_w + t.server_idle_w > 0 for t in terms):
        return None
    ranges = [_joules(scenario, t, world, account) for t in terms]
    for best, mine in zip(terms, ranges, strict=True):
        others = ((t, r) for t, r in zip(terms, ranges, strict=True) if t is not best)
        if all(_excess(scenario, best, mine, t, r, world) <= 0 for t, r in others):
            return best.name
    return None


def _joules(scenario: Scenario, terms: Terms, world: World, account: Account) -> _Joules:
    """Least and largest energy of a request by zone; the device's idle power is the same for all and left out."""
    device = world.root[scenario.device.zone]
    if not terms.remote:
        return _Joules({device: terms.compute_j}, {device: terms.compute_j})
    node, link = scenario.nodes[terms.node], scenario.links[terms.link]
    least_kb, most_kb = _crossing_kb(scenario, terms)
    low, high = {}, {}

    def add(zone: str, least: float, most: float) -> None:
        low[zone], high[zone] = low.get(zone, 0.0) + least, high.get(zone, 0.0) + most

    radio = _radio_j(scenario, terms)
    idle = _server_idle_j(scenario, terms) if account == "attributional" else 0.0
    add(device, terms.compute_j + radio[0], terms.compute_j + radio[1])
    alone, full = (terms.shared_j / batch + terms.own_j for batch in (1, terms.max_batch))
    add(world.root[node.zone], min(alone, full), max(alone, full) + idle)
    per_kb = terms.network_j_per_kb
    add("network " + world.root[link.network_zone], least_kb * per_kb, most_kb * per_kb)
    return _Joules(low, high)


def _crossing_kb(scenario: Scenario, terms: Terms) -> tuple[float, float]:
    """Least and most that a request puts on the link, kB."""
    payload = scenario.payload
    return float(terms.crossing_kb(payload.low_kb)), float(terms.crossing_kb(payload.high_kb))


def _radio_j(scenario: Scenario, terms: Terms) -> tuple[float, float]:
    """Least and largest radio energy of an offload; without a limit where loss can prolong the sending."""
    if not terms.transmit_w and not terms.tail_w:
        return 0.0, 0.0
    link, (least_kb, most_kb) = scenario.links[terms.link], _crossing_kb(scenario, terms)
    if not isinstance(link.source, PhasedLink):
        return 0.0, np.inf
    rates = [p.rate_mbps for p in link.source.phases]
    shortest_ms, longest_ms = (
        least_kb * BITS_PER_BYTE / max(rates),
        most_kb * BITS_PER_BYTE / min(rates),
    )
    most = (longest_ms * terms.transmit_w + terms.tail_ms * terms.tail_w) / MS_PER_S
    return shortest_ms * terms.transmit_w / MS_PER_S, most if link.transfer.model == "empirical" else np.inf


def _server_idle_j(scenario: Scenario, terms: Terms) -> float:
    """Largest idle share of a request: the longest gap, with no tenant to share it."""
    if not terms.server_idle_w:
        return 0.0
    if not isinstance(scenario.arrivals, Periodic):
        return np.inf
    longest_ms = MS_PER_S / scenario.arrivals.low_per_s * (1.0 + 1.9 * scenario.arrivals.jitter_fraction)
    return longest_ms * terms.server_idle_w / MS_PER_S


def _excess(
    scenario: Scenario, best: Terms, mine: _Joules, other: Terms, theirs: _Joules, world: World
) -> float:
    """Largest carbon of the one less the other's at the worst intensities for it (g/kWh x J)."""
    same_network = best.remote and other.remote and best.link == other.link
    per_kb_equal = (best.network_j_per_kb, best.activation_kb) == (
        other.network_j_per_kb,
        other.activation_kb,
    )
    need: dict[str, float] = {}
    for joules, sign in ((mine.high, 1.0), (theirs.low, -1.0)):
        for name, value in joules.items():
            if name.startswith("network ") and same_network and per_kb_equal:
                continue  # the same bytes over the same network
            zone = name.removeprefix("network ")
            need[zone] = need.get(zone, 0.0) + sign * value
    worst = 0.0
    for zone, joules in need.items():
        low, high = world.bounds[zone]
        if joules:
            worst += joules * (high if joules > 0 else low)
    return worst
