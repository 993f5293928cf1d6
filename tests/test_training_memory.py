"""Stacked observations and an LSTM decide in the benchmark as they did in training."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.export import export_run
from carbonpilot.agents.policy_memory import Recurrent
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import training_env
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.sb3_vec_env import make_sb3_env
from carbonpilot.envs.simulator import Simulator

B, STACK = 8, 3


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def stacked(lab, site, tmp_path_factory):
    out = tmp_path_factory.mktemp("stacked") / "run"
    lab.train(site, out, 512, "ppo", settings={"stack": STACK})
    return out


@pytest.fixture(scope="module")
def recurrent(lab, site, tmp_path_factory):
    out = tmp_path_factory.mktemp("recurrent") / "run"
    lab.train(site, out, 512, "recurrent-ppo")
    return out


def test_stacked_observations_are_those_of_training(site, stacked):
    settings = load_training_config("ppo", "x", "x", changes={"stack": STACK})[0]
    base = make_sb3_env(site, B, seed=4)
    env = training_env(base, settings, True, None)
    policy, seen = Sb3Policy.load(stacked), env.reset()
    policy.reset(B)
    features = base.observation_space.shape[0]
    everything = np.ones((B, int(base.action_space.n)), dtype=bool)
    for _ in range(30):
        expected, _ = policy.model.predict(seen, deterministic=True)
        action = policy.decide(seen[:, -features:], everything)
        np.testing.assert_array_equal(action, expected)
        seen, _, done, _ = env.step(action)
        assert not done.any()


def test_a_reset_forgets_what_was_stacked(site, stacked):
    policy = Sb3Policy.load(stacked)
    observation = np.random.default_rng(0).random((B, len(RunDir(stacked).normalizer[0]))).astype(np.float32)
    policy.reset(B)
    first = policy.scores(observation)
    assert not np.allclose(policy.scores(observation), first), "it sees the request before as well"
    policy.reset(B)
    np.testing.assert_array_equal(policy.scores(observation), first)


def test_the_lstm_goes_on_as_sb3s_own_predict_does(site, recurrent):
    policy, simulator = Sb3Policy.load(recurrent), Simulator(site, B)
    assert isinstance(policy._memory, Recurrent)
    observation, states = simulator.reset(np.arange(B)), None
    policy.reset(B)
    for i in range(20):
        started = np.full(B, i == 0)
        expected, states = policy.model.predict(observation, states, started, deterministic=True)
        action = policy.decide(observation, simulator.masks())
        np.testing.assert_array_equal(action, expected)
        observation = simulator.step(action).observation
    policy.reset(B)
    first = policy.scores(observation)
    assert not np.allclose(policy.scores(observation), first)


def test_what_has_a_memory_is_no_bundle(stacked, recurrent, tmp_path):
    for run, words in ((stacked, "the last 3 observations"), (recurrent, "with a memory")):
        with pytest.raises(InputError, match=words):
            export_run(run, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
