"""The tape's baseline: no action changes it, the policy gradient keeps its expectation, the variance falls."""

import itertools

import numpy as np
import pytest

from carbonpilot.agents.constraint import PidLagrangian
from carbonpilot.agents.teach.baseline import HindsightReference, TapeBaseline
from carbonpilot.agents.teach.tapes import TeachingTapes
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import training_env
from carbonpilot.envs.sb3_vec_env import make_sb3_env
from carbonpilot.envs.schema import ClosedLoop
from carbonpilot.envs.simulator import Simulator
from carbonpilot.oracle.replay import columns_of


def enumerated(scenario, tapes):
    """Every sequence of placements on every tape: observations (N, B, F), actions, rewards, baseline (N, B)."""
    requests = scenario.episode.requests
    sequences = np.array(list(itertools.product((0, 1), repeat=requests))).T  # (N, 2^N)
    tape = TeachingTapes(scenario, 1).draw(0, tapes)
    columns = np.repeat(np.arange(tapes), sequences.shape[1])
    simulator = Simulator(scenario, columns.size)
    observation = simulator.reset_tape(columns_of(tape, columns))
    reference = HindsightReference(simulator)
    actions = np.tile(sequences, (1, tapes))
    seen, rewards, baseline = [], [], []
    for placements in actions:
        seen.append(observation)
        baseline.append(reference.rewards())
        result = simulator.step(placements)
        rewards.append(result.reward)
        observation = result.observation
    return np.array(seen), actions, np.array(rewards), np.array(baseline)


def gradients(theta, seen, actions, rewards):
    """REINFORCE's estimate of each whole episode (B, F), and the probability of its actions (B,)."""
    remote = 1 / (1 + np.exp(-(seen @ theta)))  # probability of placement 1 (N, B)
    probability = np.where(actions == 1, remote, 1 - remote).prod(axis=0)
    score = (actions - remote)[..., None] * seen  # of a logistic policy (N, B, F)
    to_go = np.cumsum(rewards[::-1], axis=0)[::-1]
    return (score * to_go[..., None]).sum(axis=0), probability


@pytest.mark.parametrize("closed_loop", [False, True])
def test_gradient_keeps_its_expectation_and_loses_variance(tiny_scenario, closed_loop):
    """Exact: all 64 sequences of six requests, weighted by their probability, on 8 tapes."""
    tapes = 8
    scenario = tiny_scenario(episode={"requests": 6}, slo={"latency_ms": 95, "quantile": 0.8})
    if closed_loop:
        scenario = scenario.model_copy(update={"arrivals": ClosedLoop(kind="closed_loop")})
    seen, actions, rewards, baseline = enumerated(scenario, tapes)
    by_tape = baseline.reshape(6, tapes, -1)
    assert np.ptp(by_tape, axis=2).max() == 0, "the same whatever was done"
    assert by_tape.std(axis=1).min() > 0, "and another on every tape"
    theta = np.random.default_rng(0).normal(size=seen.shape[2]) * 0.3
    plain, probability = gradients(theta, seen, actions, rewards)
    less, _ = gradients(theta, seen, actions, rewards - baseline)
    assert probability.sum() == pytest.approx(tapes)
    weight = probability[:, None] / tapes
    expected = (weight * plain).sum(axis=0)
    np.testing.assert_allclose((weight * less).sum(axis=0), expected, rtol=1e-9, atol=1e-12)
    assert np.abs(expected).max() > 1e-3
    variance = [(weight * (g - expected) ** 2).sum() for g in (plain, less)]
    assert variance[1] < 0.7 * variance[0]


def test_wrapper_is_blind_to_actions_and_follows_restarts(tiny_scenario):
    scenario = tiny_scenario(episode={"requests": 7})
    taken = []
    for seed in (0, 1):
        site = make_sb3_env(scenario, 8, 3, phases=4)  # episodes restart at different times
        env = TapeBaseline(site, site, 1.0, constrained=False)
        env.reset()
        rng = np.random.default_rng(seed)
        for _ in range(30):
            env.step(rng.integers(2, size=8))
            taken.append(env.baseline)
    one, other = np.array(taken).reshape(2, 30, 8)
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one)) > 100


def test_reward_is_scaled_and_metrics_are_not(tiny_scenario):
    scenario = tiny_scenario(episode={"requests": 7})
    settings, _ = load_training_config(
        "ppo", "none", "none", None, {"num_envs": 4, "batch_size": 512, "constraint": None}
    )
    rewards, infos = {}, {}
    for on in (False, True):
        site = make_sb3_env(scenario, 4, 3)
        env = training_env(site, settings.model_copy(update={"tape_baseline": on}), True, None)
        env.reset()
        steps = [env.step(np.ones(4, dtype=np.int64)) for _ in range(7)]
        rewards[on] = np.array([step[1] for step in steps])
        infos[on] = [info["episode_metrics"] for info in steps[-1][3]]
    site = make_sb3_env(scenario, 4, 3)
    site.reset()
    reference = HindsightReference(site.simulator)
    expected = np.array([reference.rewards() for _ in range(7)]) * settings.reward_scale
    np.testing.assert_allclose(rewards[False] - rewards[True], expected, atol=1e-6)
    assert infos[False] == infos[True]


def test_constraint_sets_the_price_in_the_baseline_too(tiny_scenario):
    scenario = tiny_scenario(slo={"latency_ms": 95, "quantile": 0.8}, episode={"requests": 40})
    changes = {"num_envs": 16, "tape_baseline": True}
    settings, _ = load_training_config("ppo", "none", "none", None, changes)
    assert settings.constraint is not None
    misses = {}
    for multiplier in (0.1, 50.0):
        constraint = PidLagrangian(settings.constraint, scenario.slo, multiplier)
        site, own = (make_sb3_env(scenario, 16, 3) for _ in range(2))
        env = training_env(site, settings, True, constraint)
        env.reset()
        own.reset()
        reference = HindsightReference(own.simulator)
        expected = []
        for _ in range(30):
            env.step(np.zeros(16, dtype=np.int64))
            expected.append(reference.rewards(multiplier))
            np.testing.assert_allclose(env.baseline, settings.reward_scale * expected[-1])
        misses[multiplier] = (np.array(expected) < -multiplier).mean()
    assert misses[50.0] < 0.5 * misses[0.1]
