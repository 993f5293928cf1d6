"""The value head learns targets of unit size and answers in reward units, and a change of scale moves no prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from carbonpilot.agents.algorithms import build_model, load_model
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import training_env
from carbonpilot.agents.value_scaling import ScaledValue
from carbonpilot.envs.sb3_vec_env import make_sb3_env


@pytest.fixture
def head():
    torch.manual_seed(0)
    return ScaledValue(nn.Linear(4, 1))


def test_predictions_stay_when_the_scale_moves(head):
    latent, rng = torch.randn(50, 4), np.random.default_rng(0)
    head.eval()
    before = head(latent).detach()
    for mean, spread in ((-300, 40), (-20, 3), (0, 0)):
        head.observe(rng.normal(mean, spread, size=(32, 8)).astype(np.float32))
        np.testing.assert_allclose(head(latent).detach(), before, rtol=1e-4, atol=1e-3)


def test_it_learns_normalised_and_answers_in_reward_units(head):
    returns = np.random.default_rng(0).normal(-50, 7, size=4000).astype(np.float32)
    head.observe(returns)
    assert head.mean.item() == pytest.approx(-50, abs=0.5), "the first rollout counts whole"
    assert head.spread.item() == pytest.approx(7, abs=0.3)
    learned = head.normalised(returns)
    assert learned.mean() == pytest.approx(0, abs=1e-4)
    assert learned.std() == pytest.approx(1, abs=1e-3)
    latent = torch.randn(5, 4)
    normal = head.train()(latent).detach()
    np.testing.assert_allclose(head.eval()(latent).detach(), normal * head.spread + head.mean, rtol=1e-6)


@pytest.mark.parametrize("algo", ["ppo", "maskable-ppo", "recurrent-ppo"])
def test_rollouts_are_normalised_for_every_ppo(lab, tmp_path, algo):
    """The same rewards a hundred times as large must give the same value targets and the same loss."""
    seen = []
    for scale in (0.1, 10.0):
        settings = load_training_config(algo, "x", "x", changes={**lab.small[algo], "reward_scale": scale})[0]
        base = make_sb3_env(lab.site(tmp_path), settings.num_envs, seed=0)
        width = len(base.simulator.table)
        env = training_env(base, settings, True, None)
        mean, std = np.zeros(width, np.float32), np.ones(width, np.float32)
        model = build_model(algo, settings, base.scenario, env, mean, std, seed=1)
        model.learn(512)
        seen.append(model.rollout_buffer.returns.copy())
        assert abs(seen[-1]).max() < 30
        model.save(tmp_path / "model.zip")
        again = load_model(algo, tmp_path / "model.zip").policy.value_net
        for name, value in model.policy.value_net.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name
    # In the first rollouts the untrained head's own answers still count, so only the order must agree.
    assert np.corrcoef(seen[0].ravel(), seen[1].ravel())[0, 1] > 0.9
