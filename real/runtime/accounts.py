"""What a frame's calls cost: the simulator's energy formulas with this run's numbers, over all calls of the frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...envs.schema import LOCAL, Node, Placement, Scenario
from ...envs.service import batch_energy_j
from ...envs.units import (
    BYTES_PER_KB,
    MG_PER_J_PER_G_PER_KWH,
    MS_PER_S,
    full_batch_rate,
    ms_per_kb,
    network_energy_j,
)
from ..site_file import NodeLevels
from .calls import Call

# Whether a call that ended so has sent its payload, and whether the server has computed it. A server goes on with a
# request whose client gave up (Triton's request cancellation: what a backend has begun is finished).
_SENT_AND_SERVED = {
    None: (True, True),
    "timeout": (True, True),
    "wrong-answer": (True, True),
    "model-error": (True, True),
    "cancelled": (True, True),
    "rejected": (True, False),
    "unreachable": (False, False),
}


@dataclass(frozen=True)
class Surroundings:
    """What is known of the world at the time of use; None what is not.

    Attributes:
        carbon_g_per_kwh: by node ("local" is the device) and "network of LINK".
        loads: share of the capacity in use, by node.
        uplink_mbps: by link.
    """

    carbon_g_per_kwh: Mapping[str, float | None]
    loads: Mapping[str, float | None]
    uplink_mbps: Mapping[str, float | None]


@dataclass(frozen=True)
class Charge:
    """Energy (J) and carbon (mg) of a frame, None what is not known; fields as in `log_records.FrameRecord`."""

    compute_energy_j: float | None
    radio_energy_j: float | None
    network_energy_j: float | None
    server_energy_j: float | None
    device_idle_energy_j: float | None
    server_idle_energy_j: float | None
    energy_j_marginal: float | None
    energy_j_attributional: float | None
    carbon_mg_marginal: float | None
    carbon_mg_attributional: float | None


def network_of(link: str) -> str:
    """Key of the grid that powers a link's network."""
    return f"network of {link}"


class Accounts:
    """Charges frames; keeps the state of the radio, so frames are charged in the order in which they end.

    Args:
        scenario: the site's.
        levels: believed batch by load of each node.
    """

    def __init__(self, scenario: Scenario, levels: Mapping[str, NodeLevels]) -> None:
        self._scenario = scenario
        self._placements = {p.name: p for p in scenario.placements}
        self._levels = {name: (np.asarray(v.load), np.asarray(v.batch)) for name, v in levels.items()}
        self._tail_until_s = float("-inf")

    def charge(
        self, calls: Sequence[Call], gap_s: float, world: Surroundings, correction: float = 1.0
    ) -> Charge:
        """Work out what a frame cost.

        Args:
            calls: all of the frame, ended.
            gap_s: since the frame before, for the shares of idle power.
            world: at the time of use.
            correction: measured over calibrated energy of the device.
        """
        bill = _Bill(world)
        for call in calls:
            placement = self._placements[call.placement]
            here_j = device_energy_j(placement)
            if here_j > 0.0 and call.began_s is not None and not _no_server_yet(call):
                bill.add("compute_energy_j", here_j * correction, LOCAL)
            if placement.node != LOCAL:
                self._remote(bill, call, placement, world)
        bill.add("device_idle_energy_j", gap_s * self._scenario.device.idle_power_w, LOCAL)
        for name in dict.fromkeys(self._placements[c.placement].node for c in calls if c.away_s is not None):
            if name != LOCAL:
                bill.add("server_idle_energy_j", self._idle_share_j(name, gap_s, world), name)
        return bill.total()

    def _remote(self, bill: _Bill, call: Call, placement: Placement, world: Surroundings) -> None:
        node = self._scenario.nodes[placement.node]
        sent, served = _SENT_AND_SERVED[call.error]
        if call.away_s is None:
            return  # it never had its turn, or its head was all
        if sent:
            kb = call.payload_bytes / BYTES_PER_KB
            moved_j = network_energy_j(kb, self._scenario.links[node.link].network_energy_nj_per_bit)
            bill.add("network_energy_j", moved_j, network_of(node.link))
            bill.add("radio_energy_j", self._radio_j(call, kb, world.uplink_mbps.get(node.link)), LOCAL)
        if served:
            shared_j, own_j = batch_energy_j(placement, node.pue)
            batch = self._batch(placement.node, world.loads.get(placement.node))
            bill.add("server_energy_j", shared_j / batch + own_j, placement.node)

    def _radio_j(self, call: Call, kb: float, uplink_mbps: float | None) -> float:
        """Sending, and the awake time that this transfer adds to the tail (as in `envs.sending`).

        Where no rate is known the radio is taken to send during the whole call, which is the most that it can.
        """
        radio = self._scenario.device.radio
        if radio is None or call.away_s is None or call.ended_s is None:
            return 0.0
        sending_s = call.ended_s - call.away_s
        if uplink_mbps is not None:
            sending_s = kb * ms_per_kb(uplink_mbps) / MS_PER_S
        added_s = max(radio.tail_s - max(self._tail_until_s - call.away_s, 0.0), 0.0)
        self._tail_until_s = max(self._tail_until_s, call.away_s + sending_s + radio.tail_s)
        return sending_s * radio.transmit_power_w + added_s * radio.tail_power_w

    def _batch(self, node: str, load: float | None) -> float:
        """Batch that a request rides in, at the nearest level of the load; alone where the load is not known."""
        if load is None or node not in self._levels:
            return 1.0
        loads, batches = self._levels[node]
        return float(batches[np.abs(loads - load).argmin()])

    def _idle_share_j(self, name: str, gap_s: float, world: Surroundings) -> float:
        """Share of a node's idle energy: its tenants share it by their number of requests (as in `envs.physics`)."""
        node = self._scenario.nodes[name]
        idle_j = gap_s * node.pue * node.idle_power_w
        load = world.loads.get(name)
        return idle_j / (1.0 + gap_s * MS_PER_S * _tenants_per_ms(node, load or 0.0))


def _no_server_yet(call: Call) -> bool:
    """Whether a split model's head was not computed because its server has not been there so far."""
    return call.at_head and call.headed_s is None and call.error == "unreachable"


def device_energy_j(placement: Placement) -> float:
    """Above idle, what the device itself computes for a request: all of it, a split model's head, or nothing (J)."""
    if placement.split is not None:
        return placement.split.active_energy_j
    return placement.active_energy_j if placement.node == LOCAL else 0.0


def _tenants_per_ms(node: Node, load: float) -> float:
    """Requests of the other tenants a millisecond (as in `envs.node_bank`)."""
    if node.background is None:
        return 0.0
    batching = node.batching
    most, share = (1, 0.0) if batching is None else (batching.max_batch, batching.marginal_service_share)
    return load * full_batch_rate(node.background.service_ms, node.parallelism, most, share)


_TERMS = ("compute", "radio", "network", "server", "device_idle", "server_idle")


class _Bill:
    """Adds up joules by term, and their carbon by the grid they come from."""

    def __init__(self, world: Surroundings) -> None:
        self._grids = world.carbon_g_per_kwh
        self._terms: dict[str, float] = dict.fromkeys(_TERMS, 0.0)
        self._mg: dict[bool, float | None] = {False: 0.0, True: 0.0}  # by whether it is idle energy

    def add(self, term: str, joules: float, grid: str) -> None:
        """Charge joules; where the grid's intensity is not known the carbon is not either."""
        name = term.removesuffix("_energy_j")
        self._terms[name] += joules
        idle, intensity = name.endswith("_idle"), self._grids.get(grid)
        if joules == 0.0:
            return
        so_far = self._mg[idle]
        known = intensity is not None and so_far is not None
        self._mg[idle] = so_far + joules * intensity * MG_PER_J_PER_G_PER_KWH if known else None  # type: ignore[operator]

    def total(self) -> Charge:
        """The sums."""
        terms = {f"{name}_energy_j": value for name, value in self._terms.items()}
        active_j = sum(value for name, value in self._terms.items() if not name.endswith("_idle"))
        active_mg, idle_mg = self._mg[False], self._mg[True]
        both_mg = None if active_mg is None or idle_mg is None else active_mg + idle_mg
        return Charge(
            **terms,
            energy_j_marginal=active_j,
            energy_j_attributional=sum(self._terms.values()),
            carbon_mg_marginal=active_mg,
            carbon_mg_attributional=both_mg,
        )
