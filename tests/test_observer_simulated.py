"""The observer, driven with a simulated episode's telemetry and outcomes, shows the simulator's observations."""

import copy

import numpy as np
import pytest
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_episode import Episode, compare

from carbonpilot.envs.absence import without_nodes
from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated


@pytest.mark.parametrize("name", ["metro", "khan-emu-a", "drive-b4", "carbonedge", "ng-tenants", "split"])
def test_observations_are_the_simulators(name):
    episode = Episode(name)
    rng = np.random.default_rng(3)
    compare(episode, rng.integers(0, len(episode.scenario.placements), 400), 400)
    assert episode.n >= 50


@pytest.mark.parametrize("gone", [("south",), ("edge", "north")])
def test_a_node_that_the_deployment_leaves_out_shows_as_an_absent_one(gone):
    """Neither probes nor feeds tell of it, and the bits are those of the simulator's absent node all the same."""
    site = validated(Scenario, without_nodes(scenario_dict(load_scenario("metro")), gone), "metro")
    episode = Episode(site)
    rng = np.random.default_rng(3)
    compare(episode, rng.integers(0, len(site.placements), 200), 200)
    assert episode.n >= 50
    assert episode.observer.unknown == ()
    seen, table = episode.observed(), episode.simulator.table
    for node in gone:
        assert seen[table.index[f"{node}_load_age_s"]] == table.high[table.index[f"{node}_load_age_s"]]


@st.composite
def sites(draw):
    """Small sites with everything that the state depends on, in any combination."""
    radio = draw(st.sampled_from([None, {"transmit_power_w": 2, "tail_power_w": 1.2, "tail_s": 0.3}]))
    hot = {"slowdown": 1.3, "time_constant_s": 2, "hot_utilisation": 0.5, "cool_utilisation": 0.4}
    throttling = draw(st.sampled_from([None, {**hot, "ambient_spread": 0.1}]))
    links = draw(st.integers(1, 2))
    nodes = draw(st.integers(1, 3))
    service = {"distribution": "lognormal", "p50_ms": draw(st.sampled_from([20, 90, 180])), "p95_ms": 250}
    site = {
        "world_clock": draw(st.sampled_from(["time", "request"])),
        "episode": {"requests": 60},
        "arrivals": draw(
            st.sampled_from(
                [
                    {"kind": "closed_loop"},
                    {"kind": "poisson", "low_per_s": 5, "high_per_s": 20},
                    {"kind": "periodic", "low_per_s": 9, "high_per_s": 11, "jitter_fraction": 0.1},
                ]
            )
        ),
        "device": {"zone": "home", "idle_power_w": 4, "radio": radio, "throttling": throttling},
        "links": {},
        "nodes": {},
    }
    locals_ = draw(st.integers(1, 2))
    placements = [{**TINY["placements"][0], "name": f"local-{i}", "service": service} for i in range(locals_)]
    for i in range(links):
        rate = draw(st.sampled_from([4, 50]))
        phases = [{"rtt_ms": 20, "jitter_ms": 2, "loss_pct": 0.5, "rate_mbps": rate}]
        site["links"][f"link-{i}"] = {
            **TINY["links"]["uplink"],
            "source": {"kind": "phases", "phases": phases},
        }
    for k in range(nodes):
        node = {**TINY["nodes"]["edge"], "link": f"link-{draw(st.integers(0, links - 1))}"}
        if draw(st.booleans()):
            node = {**node, "background": None}
        if draw(st.integers(0, 3)) == 0:
            node = {**node, "availability": {"probability": 0.0}}
        batching = draw(st.booleans())
        node["batching"] = node["batching"] if batching else None
        site["nodes"][f"node-{k}"] = node
        place = {**TINY["placements"][1], "name": f"remote-{k}", "node": f"node-{k}"}
        placements.append(place if batching else {**place, "batched_energy_j": None})
        if draw(st.booleans()):
            head = {
                "cut": "c",
                "service": {
                    "distribution": "lognormal",
                    "p50_ms": draw(st.sampled_from([10, 60])),
                    "p95_ms": 90,
                },
                "active_energy_j": 0.4,
                "activation_kb": draw(st.sampled_from([3.7, 60.0])),
            }
            placements.append({**placements[-1], "name": f"split-{k}", "split": head})
    site["placements"] = placements
    keep = {k: v for k, v in copy.deepcopy(TINY).items() if k not in site}
    return validated(Scenario, {**keep, **copy.deepcopy(site)}, "drawn")


@settings(deadline=None, max_examples=25)
@given(site=sites(), seed=st.integers(0, 1000))
def test_observations_are_the_simulators_on_any_site(site, seed):
    episode = Episode(site, seed)
    rng = np.random.default_rng(seed)
    compare(episode, rng.integers(0, len(site.placements), 60), 60)
