"""What a call of a split model costs, and how large it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from split_site import SPLIT_PLACE
from test_runtime_books import LEVELS, WORLD

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.simulator import Simulator
from carbonpilot.real.runtime.accounts import Accounts
from carbonpilot.real.runtime.calls import Call
from carbonpilot.real.runtime.checks import check_activations
from carbonpilot.real.runtime.payloads import Payloads


@pytest.fixture
def scenario(tiny, tiny_scenario):
    return tiny_scenario(placements=[*tiny["placements"], SPLIT_PLACE], nodes={"edge": {"background": None}})


def split_call(error=None, headed=0.03, sent=0.03):
    return Call(
        "edge-cut",
        0.0,
        12_500,
        began_s=0.0,
        ended_s=0.1,
        error=error,
        split=True,
        headed_s=headed,
        sent_s=sent,
    )


def test_a_split_call_is_charged_as_the_simulator_does(scenario):
    simulator = Simulator(scenario, 1)
    simulator.reset([3])
    theirs = simulator.preview()[2]
    ours = Accounts(scenario, LEVELS).charge([split_call()], 0.0, WORLD)
    for term in ("compute_energy_j", "network_energy_j", "server_energy_j", "energy_j_marginal"):
        assert getattr(ours, term) == pytest.approx(float(getattr(theirs, term)[0]), rel=1e-6), term
    assert ours.compute_energy_j == pytest.approx(0.4)
    assert ours.network_energy_j == pytest.approx(12_500 * 8 * 10e-9)


def test_a_head_whose_tail_was_never_sent_costs_the_device_only(scenario):
    charge = Accounts(scenario, LEVELS).charge([split_call("timeout", sent=None)], 0.5, WORLD)
    assert charge.compute_energy_j == pytest.approx(0.4)
    assert (charge.network_energy_j, charge.server_energy_j, charge.server_idle_energy_j) == (0.0, 0.0, 0.0)
    none = split_call("unreachable", headed=None, sent=None)  # its server has not been there since the start
    assert Accounts(scenario, LEVELS).charge([none], 0.0, WORLD).compute_energy_j == 0.0
    waiting = Call("edge-cut", 0.0, 12_500, ended_s=1.0, error="cancelled", split=True)
    assert Accounts(scenario, LEVELS).charge([waiting], 0.0, WORLD).energy_j_attributional == 0.0


def test_a_frames_size_is_not_its_activations(scenario):
    sizes = {"local": 0, "edge-b0": 50_000, "edge-cut": 12_500}
    payloads = Payloads(scenario)
    assert payloads.largest_kb(sizes) == 50.0
    assert payloads.of_kb(sizes, "edge-cut") == payloads.of_kb(sizes, "local") == 50.0
    only = scenario.model_copy(update={"placements": [scenario.placements[0], scenario.placements[2]]})
    assert Payloads(only).largest_kb({"local": 0, "edge-cut": 12_500}) == (25 + 80) / 2


def test_segments_that_send_another_size_than_calibrated_are_refused(scenario):
    executor = SimpleNamespace(payload_bytes=lambda frame: 25_000)
    with pytest.raises(InputError, match=r"its segments send 25 kB for a frame, the site file says 12\.5 kB"):
        check_activations(SimpleNamespace(scenario=scenario), {"edge-cut": executor})
    executor.payload_bytes = lambda frame: 12_508
    check_activations(SimpleNamespace(scenario=scenario), {"edge-cut": executor})
