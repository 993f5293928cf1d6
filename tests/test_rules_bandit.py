"""The bandit learns within an episode, forgets between them, and takes less risk at a higher price."""

import numpy as np
import pytest

from carbonpilot.agents.bandit import Bandit
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.rule_parameters import make_rule
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.simulator import Simulator

METRO = load_scenario("metro")


def site_with_two_servers(tiny, tiny_scenario):
    """Two servers of the same belief; what they really do is up to the test."""
    place = tiny["placements"][1]
    return tiny_scenario(
        nodes={"edge": tiny["nodes"]["edge"], "other": tiny["nodes"]["edge"]},
        placements=[
            tiny["placements"][0],
            place | {"name": "bad", "node": "edge"},
            place | {"name": "good", "node": "other"},
        ],
    )


@pytest.mark.parametrize("believed_better", ["bad", "good"])
def test_the_bandit_converges_to_the_server_that_answers_in_time(tiny, tiny_scenario, believed_better):
    scenario = site_with_two_servers(tiny, tiny_scenario)
    table = build_table(scenario)
    rng = np.random.default_rng(0)
    bandit = Bandit(scenario, {"exploration": 0.5, "drift_per_request": 1e-4, "budget_gain": 0})
    bandit.reset(64)
    observation = np.zeros((64, len(table)), np.float32)

    def put(name, value):
        observation[:, table.index[name]] = np.asarray(value) / table.features[table.index[name]].scale

    names = [p.name for p in scenario.placements]
    put(f"{names[0]}_latency_ms", 79)
    put(f"{names[0]}_carbon_mg", 2.0)
    for name in ("bad", "good"):
        put(f"{name}_latency_ms", 70)
        put(f"{name}_carbon_mg", 0.4 if name == believed_better else 0.45)
    put("gap_ms", 100)
    chosen = []
    for _ in range(400):
        choice = bandit.decide(observation, np.ones((64, 3), bool))
        chosen.append(choice)
        # Answered before the next request; the bad server misses in 60 % of the cases, the good one in 3 %.
        for node, index, miss in (("edge", 1, 0.6), ("other", 2, 0.03)):
            missed = rng.random(64) < miss
            column = table.index[f"{node}_last_latency_ms"]
            scale = table.features[column].scale
            answer = np.where(missed, 300, 70) / scale
            observation[:, column] = np.where(choice == index, answer, observation[:, column])
    share = (np.array(chosen[200:]) == 2).mean()
    assert share > 0.9


def test_the_bandit_forgets_between_episodes():
    bandit = make_rule("bandit", METRO)
    simulator = Simulator(METRO, 3)
    runs = []
    for _ in range(2):
        observation = simulator.reset([1, 2, 3])
        bandit.reset(3)
        chosen = []
        for _ in range(100):
            chosen.append(bandit.decide(observation, simulator.masks()))
            observation = simulator.step(chosen[-1]).observation
        runs.append(np.array(chosen))
    np.testing.assert_array_equal(*runs)


def test_a_dearer_miss_makes_the_bandit_take_less_risk():
    seeds = np.arange(20)
    misses = []
    for price in (0.3, 30.0):
        rule = make_rule("bandit", METRO, {"miss_price_locals": price, "budget_gain": 0.0})
        misses.append(run_policy(rule, METRO, seeds, "training").missed.sum())
    assert misses[1] < misses[0]
