"""The runtime's books: what calls cost, what was saved, and quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fixture import answer
from hypothesis import given
from hypothesis import strategies as st
from test_runtime_log import frame_line

from carbonpilot.envs.observation import build_table
from carbonpilot.envs.simulator import Simulator
from carbonpilot.real.runtime.accounts import Accounts, Surroundings
from carbonpilot.real.runtime.calls import Call
from carbonpilot.real.runtime.quantile import quantile
from carbonpilot.real.runtime.savings import Savings
from carbonpilot.real.site_file import NodeLevels

# Accounts.


def call(placement, began_s, ended_s, payload=30_000, error=None):
    made = Call(placement, began_s, payload, began_s=began_s, ended_s=ended_s, error=error)
    made.answer = None if error else answer()
    return made


WORLD = Surroundings(
    {"local": 400.0, "edge": 50.0, "network of uplink": 300.0}, {"edge": 0.0}, {"uplink": 8.0}
)
LEVELS = {"edge": NodeLevels(node_sha256="0" * 64, load=[0.0, 0.5], wait_ms=[0.0, 5.0], batch=[1.0, 4.0])}


def accounts(tiny_scenario, **changes):
    return Accounts(tiny_scenario(**changes), LEVELS)


def test_a_batch_shares_its_fixed_energy(tiny_scenario):
    busy = Surroundings(WORLD.carbon_g_per_kwh, {"edge": 0.6}, WORLD.uplink_mbps)
    ours = accounts(tiny_scenario)
    alone = ours.charge([call("edge-b0", 0, 0.05)], 0.0, WORLD)
    shared = ours.charge([call("edge-b0", 1, 1.05)], 0.0, busy)
    assert alone.server_energy_j == pytest.approx(1.2 * 2.0)
    assert shared.server_energy_j == pytest.approx(1.2 * (1.5 / 4 + 0.5))


@pytest.mark.parametrize(
    ("error", "sent", "served"),
    [(None, 1, 1), ("timeout", 1, 1), ("wrong-answer", 1, 1), ("model-error", 1, 1), ("cancelled", 1, 1),
     ("rejected", 1, 0), ("unreachable", 0, 0)],
)  # fmt: skip
def test_what_a_call_costs_by_how_it_ended(tiny_scenario, error, sent, served):
    charge = accounts(tiny_scenario).charge([call("edge-b0", 0, 0.05, error=error)], 0.0, WORLD)
    assert charge.network_energy_j == pytest.approx(sent * 30_000 * 8 * 10e-9)
    assert charge.server_energy_j == pytest.approx(served * 2.4)


def test_a_call_that_never_had_its_turn_costs_nothing(tiny_scenario):
    waiting = Call("local", 0.0, 0, ended_s=1.0, error="cancelled")
    charge = accounts(tiny_scenario).charge([waiting], 0.0, WORLD)
    assert charge.energy_j_attributional == 0
    assert charge.carbon_mg_attributional == 0


def test_the_radios_tail_is_paid_by_who_lengthens_it(tiny_scenario):
    radio = {"transmit_power_w": 1.5, "tail_power_w": 0.6, "tail_s": 2.0}
    ours = accounts(tiny_scenario, device={"radio": radio})
    sending_s = 30 * 8e-3 / 8.0  # 30 kB at 8 Mbit/s
    first = ours.charge([call("edge-b0", 10.0, 10.1)], 0.0, WORLD)
    assert first.radio_energy_j == pytest.approx(1.5 * sending_s + 0.6 * 2.0)
    second = ours.charge([call("edge-b0", 11.0, 11.1)], 0.0, WORLD)
    left_s = 10.0 + sending_s + 2.0 - 11.0  # of the first tail
    assert second.radio_energy_j == pytest.approx(1.5 * sending_s + 0.6 * (2.0 - left_s))
    unknown = Surroundings(WORLD.carbon_g_per_kwh, {}, {"uplink": None})
    third = ours.charge([call("edge-b0", 50.0, 50.2)], 0.0, unknown)
    assert third.radio_energy_j == pytest.approx(1.5 * 0.2 + 0.6 * 2.0)  # at most all of the call


def test_the_devices_energy_is_corrected_by_what_its_meter_says(tiny_scenario):
    charge = accounts(tiny_scenario).charge([call("local", 0, 0.09)], 0.5, WORLD, correction=1.3)
    assert charge.compute_energy_j == pytest.approx(1.3)
    assert charge.device_idle_energy_j == pytest.approx(2.0)  # 4 W for 0.5 s


@given(known=st.fixed_dictionaries({k: st.booleans() for k in WORLD.carbon_g_per_kwh}))
def test_carbon_is_known_exactly_if_every_grid_in_it_is(known):
    from conftest import TINY

    from carbonpilot.envs.schema import Scenario
    from carbonpilot.envs.validation import validated

    world = Surroundings({k: 100.0 if known[k] else None for k in known}, {}, {"uplink": 8.0})
    ours = Accounts(validated(Scenario, TINY, "tiny"), LEVELS)
    remote = ours.charge([call("edge-b0", 0, 0.05)], 0.1, world)
    assert (remote.carbon_mg_marginal is not None) == (known["edge"] and known["network of uplink"])
    assert (remote.carbon_mg_attributional is not None) == all(known.values())
    if all(known.values()):
        assert remote.carbon_mg_attributional == pytest.approx(remote.energy_j_attributional * 100 / 3600)
    local = ours.charge([call("local", 0, 0.05)], 0.1, world)
    assert (local.carbon_mg_attributional is not None) == known["local"]


def test_the_accounts_agree_with_the_simulator(tiny_scenario):
    """The same placements on a tape: compute, network and server energy are the simulator's to rounding."""
    scenario = tiny_scenario(nodes={"edge": {"background": None}})
    simulator = Simulator(scenario, 1)
    simulator.reset([3])
    payload_kb = float(np.asarray(simulator.tape.payload_kb).ravel()[0])
    theirs = simulator.preview()
    ours = Accounts(scenario, LEVELS)
    for number, placement in enumerate(("local", "edge-b0")):
        made = call(placement, 0.0, 0.05, payload=round(payload_kb * 1000))
        charge = ours.charge([made], 0.0, WORLD)
        for term in ("compute_energy_j", "network_energy_j", "server_energy_j"):
            assert getattr(charge, term) == pytest.approx(
                float(getattr(theirs[number], term)[0]), rel=1e-4
            ), term


# Savings.


def test_savings_compare_with_what_was_believed_then(tiny_scenario):
    scenario = tiny_scenario()
    table = build_table(scenario)
    raw = dict.fromkeys(table.names, 0.0)
    raw |= {"local_carbon_mg": 0.2, "edge-b0_carbon_mg": 0.05, "edge-b0_latency_ms": 40.0}

    def line(**changes):
        content = {"observation": table.encode(raw | changes.pop("raw", {})).tolist(), "placement": "edge-b0"}
        return frame_line(0, **{**content, "executed": "edge-b0", "carbon_mg_marginal": 0.06, **changes})

    ours = Savings(scenario, table, "active")
    ours.add(line())
    ours.add(line(executed=None))  # no result, no saving
    ours.add(line(carbon_mg_marginal=None))
    ours.add(line(observation=None))
    ours.add(line(raw={"local_carbon_mg": 1e9}))  # unknown shows as the worst there is
    assert ours.totals["always-local"].frames == 1
    assert ours.totals["always-local"].saved_mg == pytest.approx(0.14, abs=1e-6)
    assert ours.totals["always-offload"].frames == 2
    assert ours.totals["always-offload"].saved_mg == pytest.approx(-0.02, abs=1e-6)
    ours.add(line(mask=[1, 0]))  # no server was allowed: offloading was no choice
    assert ours.totals["always-offload"].frames == 2
    shadow = Savings(scenario, table, "shadow")
    shadow.add(line(executed="local", carbon_mg_marginal=0.21))
    assert shadow.totals["always-local"].saved_mg == pytest.approx(0.15, abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_the_share_does_not_exceed(values, q):
    found = quantile(values, q)
    assert found in values
    assert sum(v <= found for v in values) >= q * len(values) - 1e-9
    assert sum(v < found for v in values) < q * len(values)
