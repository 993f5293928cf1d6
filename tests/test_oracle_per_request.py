"""The per-request oracle: brute force, dominance given the same state, Khan's own setting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from carbonpilot.agents.baselines import baseline_names, make_policy
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Episode
from carbonpilot.envs.simulator import Simulator
from carbonpilot.oracle.per_request import PerRequestOracle, cheapest_within_slo


def short(name: str, requests: int):
    return load_scenario(name).model_copy(update={"episode": Episode(requests=requests)})


def test_cheapest_of_those_that_meet_the_slo():
    carbon = np.array([[0.6, 0.2, 0.1]] * 5)
    latency = np.array([[90, 140, 200], [90, 150, 151], [90, 160, 170], [190, 180, 170], [90, 10, 10]], float)
    allowed = np.ones((5, 3), dtype=bool)
    allowed[4, 1:] = False
    #                                  second, exactly at the SLO, local, none: the fastest, forbidden
    assert cheapest_within_slo(carbon, latency, allowed, 150.0).tolist() == [1, 1, 0, 2, 0]


def test_forbidden_placements_are_not_even_the_fastest():
    choice = cheapest_within_slo(
        np.array([[1.0, 1.0]]), np.array([[400.0, 200.0]]), np.array([[True, False]]), 150.0
    )
    assert choice.tolist() == [0]


def test_equals_brute_force_on_one_request():
    scenario = short("metro", 1)
    slo_ms = scenario.slo.latency_ms
    oracle = PerRequestOracle()
    for seed in range(15):
        simulator = Simulator(scenario, 1, part="evaluation")
        outcomes = []
        for p in range(len(scenario.placements)):
            simulator.reset([seed])
            outcomes.append(simulator.step([p]).outcome)
        meeting = [o for o in outcomes if o.latency_ms <= slo_ms]
        best = (
            min(meeting, key=lambda o: o.carbon_mg) if meeting else min(outcomes, key=lambda o: o.latency_ms)
        )
        observation = simulator.reset([seed])
        oracle.bind(simulator)
        assert oracle.decide(observation[0], simulator.masks()[0]) == best.placement


@pytest.mark.parametrize("name", ["metro", "khan-mixed"])
def test_never_worse_than_any_baseline_in_the_same_state(name):
    """Whatever got the system into its state: of what is possible there, the oracle takes the best."""
    scenario = short(name, 60)
    slo_ms = scenario.slo.latency_ms
    for policy_name in baseline_names(scenario):
        simulator = Simulator(scenario, 16, part="evaluation")
        policy, oracle = make_policy(policy_name, scenario), PerRequestOracle()
        oracle.bind(simulator)
        policy.reset(16)
        observation = simulator.reset(np.arange(16))
        rows = np.arange(16)
        for _ in range(60):
            previews = simulator.preview()
            latency = np.stack([o.latency_ms for o in previews], axis=1)
            carbon = np.stack([o.carbon_mg for o in previews], axis=1)
            best = oracle.decide(observation, simulator.masks())
            taken = policy.decide(observation, simulator.masks())
            meets = latency[rows, taken] <= slo_ms
            assert (latency[rows, best] <= slo_ms)[meets].all()
            assert (carbon[rows, best] <= carbon[rows, taken])[meets].all()
            assert (latency[rows, best] <= latency[rows, taken])[latency.min(axis=1) > slo_ms].all()
            result = simulator.step(taken)
            # What was previewed is what happens: hindsight and world agree.
            np.testing.assert_array_equal(result.outcome.latency_ms, latency[rows, taken])
            observation = result.observation


def test_no_plan_of_three_requests_meets_the_slo_more_cheaply_when_requests_do_not_interact():
    """In Khan's closed loop nothing waits for anything, so taking each request on its own is optimal."""
    scenario = short("khan-lan", 3)
    simulator = Simulator(scenario, 1, part="evaluation")
    oracle = PerRequestOracle()
    oracle.bind(simulator)
    for seed in range(5):
        observation, total = simulator.reset([seed]), 0.0
        for _ in range(3):
            result = simulator.step([oracle.decide(observation[0], simulator.masks()[0])])
            observation, total = result.observation, total + result.outcome.carbon_mg.item()
        plans = []
        for plan in itertools.product(range(len(scenario.placements)), repeat=3):
            simulator.reset([seed])
            outcomes = [simulator.step([p]).outcome for p in plan]
            if all(o.latency_ms <= scenario.slo.latency_ms for o in outcomes):
                plans.append(sum(o.carbon_mg.item() for o in outcomes))
        assert total == pytest.approx(min(plans), rel=1e-9)


def test_warm_radio_leaves_exactly_the_radio_out_of_the_choice():
    scenario = short("metro", 1)
    batch = 64
    simulator, oracle = Simulator(scenario, batch, part="evaluation"), PerRequestOracle(count_radio=False)
    oracle.bind(simulator)
    chosen = oracle.decide(simulator.reset(np.arange(batch)), simulator.masks())
    previews = simulator.preview()
    # What is left when the radio is taken away: the same site without one.
    silent = scenario.model_copy(update={"device": scenario.device.model_copy(update={"radio": None})})
    without, khan = Simulator(silent, batch, part="evaluation"), PerRequestOracle()
    khan.bind(without)
    np.testing.assert_array_equal(chosen, khan.decide(without.reset(np.arange(batch)), without.masks()))
    assert any((o.radio_energy_j > 0).all() for o in previews[1:])
    assert oracle.name == "oracle-warm-radio"


def test_batch_and_single_choose_the_same():
    scenario = short("metro", 30)
    batch, oracle = Simulator(scenario, 3, part="evaluation"), PerRequestOracle()
    oracle.bind(batch)
    observation, chosen = batch.reset([5, 6, 7]), []
    for _ in range(30):
        chosen.append(oracle.decide(observation, batch.masks()))
        observation = batch.step(chosen[-1]).observation
    for column, seed in enumerate([5, 6, 7]):
        single, alone = Simulator(scenario, 1, part="evaluation"), PerRequestOracle()
        alone.bind(single)
        observation = single.reset([seed])
        for n in range(30):
            action = alone.decide(observation[0], single.masks()[0])
            assert isinstance(action, int)
            assert action == chosen[n][column]
            observation = single.step([action]).observation


def test_needs_its_simulator():
    with pytest.raises(RuntimeError, match="bind"):
        PerRequestOracle().decide(np.zeros(3, dtype=np.float32), np.ones(2, dtype=bool))
