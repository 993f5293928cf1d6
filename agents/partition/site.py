"""Nodes and links as a scenario has them: its servers, and what its links and grids are like in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...envs.errors import InputError, unknown_name
from ...envs.link_sources import draw_link
from ...envs.schema import LOCAL, Placement, Scenario
from ...envs.service import mean_ms
from ...envs.streams import Stream, episode_keys
from ...envs.units import S_PER_MS
from ...envs.zone_sources import draw_zones
from .nodes import Chain

EPISODES, ROWS = 64, 60  # training episodes that medians are taken over, and rows of each
DEVICE = "device"


@dataclass(frozen=True)
class Conditions:
    """Medians over training episodes.

    Attributes:
        rate_mbps, rtt_ms: by link, while something gets through.
        carbon_g_per_kwh: by zone.
    """

    rate_mbps: dict[str, float]
    rtt_ms: dict[str, float]
    carbon_g_per_kwh: dict[str, float]


def conditions(scenario: Scenario, traces_dir: Path | None) -> Conditions:
    """What links and grids are like in the middle of the scenario's training episodes."""
    keys = episode_keys(np.arange(EPISODES))
    zones = draw_zones(scenario, keys, ROWS, "training", traces_dir)
    rate, rtt = {}, {}
    for name, link in scenario.links.items():
        rows = draw_link(link.source, Stream(keys, f"link:{name}"), ROWS, 0, "training", traces_dir)
        open_rows = ~rows.world.blocked
        rate[name] = _median(rows.rate_mbps[open_rows])
        rtt[name] = _median(rows.world.rtt_ms[open_rows])
    return Conditions(rate, rtt, {name: _median(truth) for name, (truth, _) in zones.items()})


def _median(values: np.ndarray) -> float:
    return round(float(np.median(values)), 6)  # float32 of tapes, as people write it


def whole_placements(scenario: Scenario, model: str) -> dict[str, Placement]:
    """The placements that run a whole model, by node; "local" is the device's.

    Raises:
        InputError: the scenario has no such model on the device and on a node.
    """
    whole = [p for p in scenario.placements if p.split is None]
    if model not in {p.model for p in whole}:
        known = {p.model for p in whole}
        raise unknown_name(f"model of scenario {scenario.name} (--as)", model, known)
    found = {p.node: p for p in whole if p.model == model}
    if LOCAL not in found:
        raise InputError(
            f"Scenario {scenario.name} does not run {model} on the device, which has to run the head."
        )
    return found


def chain_of_scenario(scenario: Scenario, model: str, traces_dir: Path | None = None) -> Chain:
    """The device and the nodes that serve a model; each is reached from the device only.

    Powers are active energies over mean service times; service times are those of a request alone.

    Raises:
        InputError: see `whole_placements`.
    """
    placed, middle = whole_placements(scenario, model), conditions(scenario, traces_dir)
    radio = scenario.device.radio
    nodes, links = [_node(DEVICE, placed[LOCAL], 1.0, middle.carbon_g_per_kwh[scenario.device.zone])], []
    for name, node in scenario.nodes.items():
        if name not in placed:
            continue
        nodes.append(_node(name, placed[name], node.pue, middle.carbon_g_per_kwh[node.zone]))
        link = scenario.links[node.link]
        links.append(
            {
                "from": DEVICE,
                "to": name,
                "rate_mbps": middle.rate_mbps[node.link],
                "rtt_ms": middle.rtt_ms[node.link] + node.extra_rtt_ms,
                "energy_nj_per_bit": link.network_energy_nj_per_bit,
                "carbon_g_per_kwh": middle.carbon_g_per_kwh[link.network_zone],
                "transmit_power_w": None if radio is None else radio.transmit_power_w,
            }
        )
    payload_kb = (scenario.payload.low_kb + scenario.payload.high_kb) / 2
    chain = {
        "schema": "carbonpilot/nodes/1",
        "nodes": nodes,
        "links": links,
        "payload_kb": payload_kb or None,
    }
    return Chain.model_validate(chain)


def _node(name: str, placement: Placement, pue: float, carbon_g_per_kwh: float) -> dict[str, object]:
    service_ms = mean_ms(placement.service)
    return {
        "name": name,
        "whole_model_ms": service_ms,
        "active_power_w": placement.active_energy_j / (service_ms * S_PER_MS),
        "pue": pue,
        "carbon_g_per_kwh": carbon_g_per_kwh,
    }
