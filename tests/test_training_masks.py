"""No algorithm ever runs a forbidden placement, not when it explores either."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.algorithms import MASKS_ITSELF, build_model
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import LocalInstead, training_env
from carbonpilot.envs.sb3_vec_env import make_sb3_env

ALGORITHMS = ["ppo", "maskable-ppo", "recurrent-ppo", "dqn", "qrdqn"]


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


class Gate:
    """Masks that change with every request, and a simulator that refuses what they forbid."""

    def __init__(self, env, share: float) -> None:
        self.simulator, self.share, self.rng = env.simulator, share, np.random.default_rng(5)
        self.placed, self.forbidden = [], 0
        self._step, self.mask = env.simulator.step, np.ones(0)
        self.draw()
        env.simulator.masks = lambda: self.mask
        env.simulator.step = self.step

    def draw(self) -> None:
        shape = (self.simulator.batch, len(self.simulator.placement_names))
        self.mask = self.rng.random(shape) < self.share
        self.mask[:, 0] = True
        self.mask.flags.writeable = False

    def step(self, actions):
        actions = np.asarray(actions)
        self.forbidden += int((~self.mask[np.arange(len(actions)), actions]).sum())
        self.placed.append(actions.copy())
        result = self._step(actions)
        self.draw()
        return result


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_training_runs_what_is_allowed_only(lab, site, algo):
    changes = {**lab.small[algo], "constraint": None}
    if "exploration_share" in load_training_config(algo, "x", "x")[0].model_dump():
        changes |= {"exploration_share": 1.0, "exploration_final": 0.5}
    settings = load_training_config(algo, "x", "x", changes=changes)[0]
    base = make_sb3_env(site, settings.num_envs, seed=0)
    gate = Gate(base, share=0.5)
    env = training_env(base, settings, algo in MASKS_ITSELF, None)
    features = len(base.simulator.table)
    mean, std = np.zeros(features, np.float32), np.ones(features, np.float32)
    model = build_model(algo, settings, base.scenario, env, mean, std, seed=1)
    model.learn(1024)
    assert gate.forbidden == 0
    shares = np.bincount(np.concatenate(gate.placed), minlength=int(base.action_space.n)) / 1024
    assert (shares > 0.03).all(), f"every placement must have been tried, got {shares}"
    assert (len(gate.placed), len(gate.placed[0])) == (1024 // settings.num_envs, settings.num_envs)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_mask_that_forbids_all_but_one_decides(lab, site, tmp_path, algo):
    out = tmp_path / "run"
    lab.train(site, out, 256, algo)
    policy = Sb3Policy.load(out)
    rng = np.random.default_rng(0)
    features = policy.model.observation_space.shape[0]
    observation = rng.random((12, features)).astype(np.float32)
    policy.reset(12)
    for only in range(int(policy.model.action_space.n)):
        mask = np.zeros((12, int(policy.model.action_space.n)), dtype=bool)
        mask[:, only] = True
        np.testing.assert_array_equal(policy.decide(observation, mask), only)


def test_what_cannot_mask_gets_local_instead(site):
    base = make_sb3_env(site, 8, seed=0)
    gate = Gate(base, share=0.0)
    env = LocalInstead(base)
    env.reset()
    env.step(np.full(8, 2))
    np.testing.assert_array_equal(gate.placed[-1], 0)
    gate.mask = np.ones_like(gate.mask)
    env.step(np.full(8, 2))
    np.testing.assert_array_equal(gate.placed[-1], 2)


def test_next_masks_are_those_of_the_next_request(lab, site):
    settings = load_training_config("dqn", "x", "x", changes=lab.small["dqn"])[0]
    base = make_sb3_env(site, settings.num_envs, seed=0)
    gate = Gate(base, share=0.5)
    env = training_env(base, settings, True, None)
    features = len(base.simulator.table)
    model = build_model(
        "dqn", settings, base.scenario, env, np.zeros(features, np.float32), np.ones(features, np.float32), 1
    )
    seen, draw = [], gate.draw

    def note():
        draw()
        seen.append(gate.mask)

    gate.draw = note
    model.learn(160)
    np.testing.assert_array_equal(model.replay_buffer.next_masks[:20], seen)
