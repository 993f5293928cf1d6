"""Absent nodes: masks per episode in every environment, what telemetry shows, and that everybody keeps to them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import carbonpilot.envs  # noqa: F401 - registers the ids
from carbonpilot.agents.policy_registry import contestants, default_policies
from carbonpilot.agents.rollout import run_policy
from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.placement_vector_env import PlacementVectorEnv
from carbonpilot.envs.sb3_vec_env import make_sb3_env
from carbonpilot.envs.scenario import load_scenario, merge, scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated
from carbonpilot.oracle.coupled import solve_coupled
from carbonpilot.oracle.exhaustive import play_every_plan
from carbonpilot.oracle.replay import replay, tapes_for
from carbonpilot.oracle.solvers import solve_budget_coupled


def changed(base="metro", **changes):
    return Scenario.model_validate(merge(scenario_dict(load_scenario(base)), changes))


def maybe(requests=40, probability=0.5, **changes):
    """Metro with servers that are absent in half of the episodes."""
    nodes = {name: {"availability": {"probability": probability}} for name in ("edge", "north", "south")}
    return changed(episode={"requests": requests}, nodes=nodes, **changes)


def test_a_node_is_there_as_often_as_it_is_said_to_be():
    simulator = Simulator(maybe(requests=5, probability=0.7), 4000)
    simulator.reset(np.arange(4000))
    masks = simulator.masks()
    assert masks[:, 0].all()
    np.testing.assert_array_equal(masks[:, 1], masks[:, 2])  # two models on one node
    np.testing.assert_allclose(masks[:, 1:].mean(axis=0), 0.7, atol=0.03)
    assert abs(np.corrcoef(masks[:, 1], masks[:, 3])[0, 1]) < 0.05  # nodes come and go by themselves


def test_a_mask_belongs_to_the_episode_and_not_to_its_batch():
    scenario = maybe(requests=5)
    together, alone = Simulator(scenario, 16), Simulator(scenario, 1)
    together.reset(np.arange(16))
    for seed in (3, 11):
        alone.reset([seed])
        np.testing.assert_array_equal(alone.masks()[0], together.masks()[seed])


def test_nothing_else_on_a_tape_changes_with_absences():
    scenario = maybe()
    with_absences, without = Simulator(scenario, 8), Simulator(changed(episode={"requests": 40}), 8)
    with_absences.reset(np.arange(8))
    without.reset(np.arange(8))
    for name in ("arrivals_ms", "payload_kb", "words", "phase_ms", "ambient"):
        np.testing.assert_array_equal(getattr(with_absences.tape, name), getattr(without.tape, name))
    truth = with_absences.site.rows.start["believed_ms"]
    np.testing.assert_array_equal(with_absences.tape.rows[:truth], without.tape.rows[:truth])
    assert without.tape.allowed is None
    assert without.masks().all()


def test_what_telemetry_shows_of_an_absent_node():
    simulator = Simulator(maybe(), 64)
    observation = simulator.reset(np.arange(64))
    table, masks = simulator.table, simulator.masks()
    raw = observation * table.scale
    for node, placement, a in (("edge", "edge-b0", 1), ("north", "north-b0", 3), ("south", "south-b0", 4)):
        gone = ~masks[:, a]
        assert gone.any()
        assert not gone.all()
        value = {
            key: raw[:, table.index[f"{node}_{key}"]] for key in ("carbon_g_per_kwh", "load", "load_age_s")
        }
        assert (value["carbon_g_per_kwh"][gone] == 1500).all()
        assert (value["load"][gone] == 1).all()
        assert (value["load_age_s"][gone] == 30).all()
        assert (value["carbon_g_per_kwh"][~gone] < 1500).all()
        latency = raw[:, table.index[f"{placement}_latency_ms"]]
        np.testing.assert_allclose(latency[gone], 600)
        carbon = raw[:, table.index[f"{placement}_carbon_mg"]]
        assert carbon[gone].min() > 2 * np.median(carbon[~gone])


def test_the_device_does_what_a_masked_placement_asks_of_a_batch():
    scenario = maybe()
    asked, local = Simulator(scenario, 32), Simulator(scenario, 32)
    asked.reset(np.arange(32))
    local.reset(np.arange(32))
    masks = asked.masks()
    for _ in range(20):
        preview = asked.preview()
        wanted = np.full(32, 3)
        got, expected = asked.step(wanted), local.step(np.where(masks[:, 3], 3, 0))
        np.testing.assert_array_equal(got.observation, expected.observation)
        np.testing.assert_array_equal(got.outcome.placement, np.where(masks[:, 3], 3, 0))
        np.testing.assert_array_equal(preview[3].latency_ms, got.outcome.latency_ms)


def test_single_environment_refuses_a_masked_placement_and_samples_allowed_ones():
    env = gym.make("carbonpilot/Placement-v0", scenario=maybe(requests=400))
    for seed in range(40):
        _, info = env.reset(seed=seed)
        if not info["action_mask"][3] and info["action_mask"][4]:
            break
    with pytest.raises(InputError, match=r"Placement 3 \('north-b0'\) is masked: its node 'north' is absent"):
        env.step(3)
    env.action_space.seed(0)
    seen = set()
    for _ in range(300):
        action = env.action_space.sample()
        seen.add(int(action))
        _, _, _, _, info = env.step(action)  # raises if it were masked
        np.testing.assert_array_equal(info["action_mask"], env.unwrapped.action_masks())
    assert seen == set(np.flatnonzero(info["action_mask"]))
    only_local = np.array([1, 0, 0, 0, 0], dtype=np.int8)
    assert env.action_space.sample(mask=only_local) == 0
    assert env.action_space == gym.spaces.Discrete(5)


def test_masks_of_a_restarted_episode_are_its_own():
    scenario = maybe(requests=6)
    env = PlacementVectorEnv(16, scenario=scenario)
    _, info = env.reset(seed=1)
    before = info["action_mask"].copy()
    for _ in range(7):  # the seventh step restarts
        observation, *_, info = env.step(np.zeros(16, dtype=np.int64))
    assert not np.array_equal(before, info["action_mask"])
    np.testing.assert_array_equal(info["action_mask"], env.action_masks())
    load = (
        observation[:, env.table.index["north_load_age_s"]]
        * env.table.scale[env.table.index["north_load_age_s"]]
    )
    np.testing.assert_array_equal(load == 30, ~info["action_mask"][:, 3])


def test_sb3_environment_gives_masks_by_episode_and_takes_masked_choices():
    env = make_sb3_env(maybe(requests=5), 12, seed=0)
    env.reset()
    first = np.stack(env.env_method("action_masks"))
    for _ in range(5):
        _, _, done, infos = env.step(np.full(12, 4))
    assert done.all()
    shares = np.array([info["episode_metrics"]["placement_share"]["south-b0"] for info in infos])
    np.testing.assert_array_equal(shares, first[:, 4].astype(float))
    assert not np.array_equal(first, np.stack(env.env_method("action_masks")))


def test_every_policy_of_a_benchmark_keeps_to_the_mask():
    """`run_policy` refuses a masked choice, so playing is the proof; rules, papers' schedulers, shield and oracles."""
    scenario = maybe(requests=60)
    names = default_policies(scenario)
    names += [
        f"{name}+shield" for name in ("slo-predictive-budget", "cleanest-zone", "random", "always-south-b0")
    ]
    for entry in contestants(names, scenario):
        record = run_policy(entry.policy, scenario, np.arange(12))
        simulator = Simulator(scenario, 12, "evaluation")
        simulator.reset(np.arange(12))
        taken = np.take_along_axis(simulator.masks().T, record.placement, axis=0)
        assert taken.all(), entry.name


def test_oracles_plan_with_the_nodes_that_are_there():
    scenario = maybe(requests=40)
    tape = tapes_for(scenario, np.arange(6))
    result = solve_budget_coupled(scenario, tape)
    assert np.take_along_axis(tape.allowed, result.plan, axis=0).all()
    given = replay(scenario, tape, result.plan)
    np.testing.assert_allclose(given.value_mg, result.value_mg)


def test_coupled_bound_lies_below_every_plan_where_nodes_are_absent():
    scenario = maybe(requests=5, probability=0.4, slo={"latency_ms": 150, "quantile": 0.7})
    tape = tapes_for(scenario, np.arange(5))
    assert not tape.allowed.all()
    result = solve_coupled(scenario, tape)
    for b in range(5):
        _, given = play_every_plan(scenario, tape, b)
        best = np.where(given.misses <= given.allowed, given.value_mg, np.inf).min()
        assert result.lower_bound_mg[b] <= best + 1e-12
    assert np.take_along_axis(tape.allowed, result.plan, axis=0).all()


def test_relaxation_has_no_arc_to_a_node_that_is_not_there():
    from carbonpilot.oracle.relaxation import relax

    scenario = maybe(requests=30)
    tape = tapes_for(scenario, np.arange(8))
    for b in range(3):
        used = np.unique(np.concatenate([node.arcs["placement"] for node in relax(scenario, tape, b).nodes]))
        assert set(used) == set(np.flatnonzero(tape.allowed[:, b])) - {0}


def test_a_site_without_any_server_is_played_on_the_device():
    scenario = maybe(requests=20, probability=0.0)
    simulator = Simulator(scenario, 4)
    simulator.reset(np.arange(4))
    np.testing.assert_array_equal(simulator.masks(), np.tile([True, False, False, False, False], (4, 1)))
    record = run_policy(contestants(["cleanest-zone"], scenario)[0].policy, scenario, np.arange(4))
    assert (record.placement == 0).all()


def test_a_probability_out_of_range_is_named():
    data = merge(
        scenario_dict(load_scenario("metro")), {"nodes": {"edge": {"availability": {"probability": 1.2}}}}
    )
    with pytest.raises(
        ScenarioError, match=r"nodes\.edge\.availability\.probability: must be <= 1, got 1\.2"
    ):
        validated(Scenario, data, "site.yaml")
