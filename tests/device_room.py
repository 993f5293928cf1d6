"""Builders for tests of the device's observer and shield."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.real.observer import Observer
from carbonpilot.real.observer.levels import node_sha256
from carbonpilot.real.probes.link import LinkState
from carbonpilot.real.probes.loop import ProbeSnapshot
from carbonpilot.real.probes.triton_load import LoadState
from carbonpilot.real.probes.uplink import UplinkState
from carbonpilot.real.site_file import NodeLevels

PAYLOAD_KB = 80.0


def quick_levels(scenario):
    """Made-up levels; the real ones take long to make."""
    return {
        name: NodeLevels(node_sha256=node_sha256(node), load=[0.0, 0.5], wait_ms=[1.0, 5.0], batch=[1.0, 2.0])
        for name, node in scenario.nodes.items()
    }


@lru_cache
def shipped(name):
    """Loaded once."""
    return load_scenario(name)


def site(name="metro", requests=1000, **changes):
    """A shipped scenario with another length of block."""
    scenario = shipped(name)
    episode = scenario.episode.model_copy(update={"requests": requests})
    return scenario.model_copy(update={"episode": episode, **changes})


def link_state(rtt_ms=20.0, age_s=0.0, uplink_mbps=50.0):
    """A link as probed `age_s` before the snapshot; None: never answered."""
    rate = None if uplink_mbps is None else np.float32(uplink_mbps)
    rtt = None if rtt_ms is None else np.float32(rtt_ms)
    return LinkState(
        rtt_ms=rtt, rtt_last_ms=rtt, rtt_deviation_ms=None if rtt is None else np.float32(2.0),
        loss_pct=np.float32(0.0), uplink=UplinkState(rate, None, False, 1, 0),
        answered_s=None if rtt is None else 1000.0 - age_s, probes=1, lost=0, tcp=None, error=None,
    )  # fmt: skip


def snapshot(scenario, links=None, loads=None):
    """All links and nodes as usual, but those given."""
    return ProbeSnapshot(
        1000.0,
        {name: link_state() for name in scenario.links} | (links or {}),
        {name: LoadState(load=0.3, measured_s=999.0) for name in scenario.nodes} | (loads or {}),
        {},
    )


def zone(carbon_g_per_kwh=300.0, age_s=1800.0, stale=False):
    """What a feed shows."""
    return SimpleNamespace(
        reading=SimpleNamespace(carbon_g_per_kwh=carbon_g_per_kwh), age_s=age_s, stale=stale
    )


def zones(scenario, **changes):
    """All zones as usual, but those given; None leaves one out."""
    found = {name: zone() for name in scenario.zones} | changes
    return {name: value for name, value in found.items() if value is not None}


def informed(scenario, **options):
    """An observer that has seen everything once."""
    observer = Observer(scenario, quick_levels(scenario), **options)
    observer.refresh(snapshot(scenario), zones(scenario), 0.0)
    return observer


def vector(scenario, **changes):
    """A sound observation where nothing is wrong: (F,); keys are feature names with _ for -."""
    table = build_table(scenario)
    raw = dict.fromkeys(table.names, 0.0)
    for p in scenario.placements:
        raw[f"{p.name}_latency_ms"], raw[f"{p.name}_carbon_mg"] = 70.0, 0.3
    for link in scenario.links:
        raw[f"{link}_rtt_ms"], raw[f"{link}_uplink_mbps"] = 20.0, 50.0
    raw |= {"payload_kb": PAYLOAD_KB, "gap_ms": 100.0, "feed_age_h": 1.0}
    names = {name.replace("-", "_"): name for name in table.names}
    raw |= {names[key]: value for key, value in changes.items()}
    return table.encode(raw)


class Wants:
    """A policy that wants what it is told, or raises it."""

    name = "wants"

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def reset(self, batch):
        pass

    def decide(self, observation, mask):
        self.seen.append(np.array(mask))
        if isinstance(self.answer, Exception):
            raise self.answer
        if observation.ndim == 2:
            return np.full(len(observation), self.answer, dtype=np.int64)
        return self.answer
