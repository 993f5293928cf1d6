"""Closed forms and rules on a site with a split placement, against the simulator."""

import numpy as np
import pytest
from split_site import EDGE, LOCAL, SPLIT, even, poisson, tandem_site

from carbonpilot.agents.neurosurgeon import make as neurosurgeon
from carbonpilot.agents.ng_policy import make as ng
from carbonpilot.agents.policy_registry import contestant, default_policies
from carbonpilot.agents.rollout import run_policy
from carbonpilot.envs.beliefs import device_shares
from carbonpilot.envs.scenario import load_scenario, merge, scenario_dict
from carbonpilot.envs.schema import Episode, Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated
from carbonpilot.oracle.breakeven import break_even

NAMES = ("local", "edge", "edge-c")


def changed(scenario, **changes):
    return validated(Scenario, merge(scenario_dict(scenario), changes), "site")


def at_rate(mbps):
    phase = {"rtt_ms": 8, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": mbps}
    return {"links": {"air": {"source": {"phases": [phase]}}}}


def alone(scenario, field):
    """What each placement gives a request that meets nobody (P,)."""
    simulator = Simulator(scenario, 1)
    simulator.reset([0])
    return [float(getattr(o, field)[0]) for o in simulator.preview()]


def test_break_even_emits_what_the_simulator_emits():
    scenario = tandem_site(even(4))
    fixed = break_even(scenario).fixed
    for name, carbon_mg in zip(NAMES, alone(scenario, "carbon_mg"), strict=True):
        assert fixed[name].carbon_mg == pytest.approx(carbon_mg, rel=1e-6), name


@pytest.mark.parametrize(("pair", "a"), [(("local", "edge-c"), LOCAL), (("edge", "edge-c"), EDGE)])
def test_latencies_are_equal_at_the_round_trip_or_rate_where_break_even_says(pair, a):
    scenario = tandem_site(even(1))
    found = break_even(scenario).pair(*pair)
    if a == LOCAL:
        tip = found.tip("mean_latency", "rate_mbps")
        assert tip.value is not None
        latency = alone(changed(scenario, **at_rate(tip.value)), "latency_ms")
        assert latency[SPLIT] == pytest.approx(latency[LOCAL], rel=1e-3)
        assert (tip.below, tip.above) == ("local", "edge-c")
    else:  # the same link: no rate of one against the other is looked for, but the head makes up for the bytes at one
        faster = [np.argmin(alone(changed(scenario, **at_rate(r)), "latency_ms")[1:]) for r in (5, 500)]
        assert faster == [1, 0]


def test_proof_of_the_cleanest_placement_counts_the_head():
    scenario = tandem_site(even(4))
    assert break_even(scenario).proven_best == "edge"  # 1.0 J and 0.12 J of network against 2.6 and 5
    dear = scenario_dict(scenario)
    dear["placements"][SPLIT]["split"]["active_energy_j"] = 0.0
    assert break_even(Scenario.model_validate(dear)).proven_best == "edge-c"


def test_no_request_beats_the_least_latency_of_break_even_and_savings_bound_policies():
    scenario = load_scenario("split").model_copy(update={"episode": Episode(requests=80)})
    bound = break_even(scenario).saving.any_latency
    local = run_policy(contestant("always-local", scenario).policy, scenario, range(8)).carbon_mg.mean()
    for name in ("always-edge", "always-edge-cut-022", "oracle-per-request"):
        given = run_policy(contestant(name, scenario).policy, scenario, range(8)).carbon_mg.mean()
        assert 1 - given / local <= bound + 1e-9, name


def choice(policy, scenario, steps=5):
    simulator = Simulator(scenario, 1)
    observation = simulator.reset([1])
    policy.reset(1)
    for _ in range(steps):
        a = policy.decide(observation, simulator.masks())
        observation = simulator.step(a).observation
    return int(a[0])


@pytest.mark.parametrize("mbps", [0.5, 2, 5, 12, 30, 200])
def test_neurosurgeon_takes_the_least_of_head_bytes_and_tail(mbps):
    scenario = changed(tandem_site(even(2)), **at_rate(mbps))
    by_hand = [100.0, 150 * 8 / mbps + 16.0, 40.0 + 25 * 8 / mbps + 10.0]
    assert choice(neurosurgeon("neurosurgeon", scenario), scenario) == int(np.argmin(by_hand))


def test_neurosurgeon_for_energy_leaves_the_device_what_costs_it_least():
    scenario = tandem_site(even(2))
    assert (
        choice(neurosurgeon("neurosurgeon-energy", scenario), scenario) == EDGE
    )  # without a radio sending is free
    radio = {"device": {"radio": {"transmit_power_w": 100.0, "tail_power_w": 0.0, "tail_s": 0.0}}}
    # 60 ms x 100 W = 6 J for a frame, 2 + 1 J for head and activation, 5 J for all of it on the device
    assert (
        choice(neurosurgeon("neurosurgeon-energy", changed(scenario, **radio)), changed(scenario, **radio))
        == SPLIT
    )


@pytest.mark.parametrize("mbps", [3, 12, 60])
def test_ngs_manager_predicts_the_tandem(mbps):
    """At a rate at which nobody queues its prediction is what a lone request takes."""
    scenario = changed(tandem_site(poisson(0.1)), **at_rate(mbps))
    policy = ng("ng-resource-manager", scenario)
    policy.reset(1)
    simulator = Simulator(scenario, 1)
    observation = simulator.reset([1])
    policy.decide(observation, simulator.masks())
    np.testing.assert_allclose(policy.predicted_ms[0], alone(scenario, "latency_ms"), rtol=0.05)


def test_device_shares():
    np.testing.assert_allclose(device_shares(tandem_site(even(1))), [1.0, 0.0, 0.4])


def test_every_rule_plays_the_shipped_site_and_stays_within_the_mask():
    scenario = load_scenario("split").model_copy(update={"episode": Episode(requests=40)})
    names = default_policies(scenario)
    assert {"neurosurgeon", "neurosurgeon-energy", "always-edge-cut-029"} <= set(names)
    for name in names:
        played = run_policy(contestant(name, scenario).policy, scenario, range(3))
        assert played.placement.min() >= 0, name
        assert played.placement.max() < len(scenario.placements), name
    assert "neurosurgeon" not in default_policies(load_scenario("metro"))  # nothing to cut there
