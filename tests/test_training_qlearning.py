"""The targets of the Q-learners against numbers worked out by hand, and the dueling network against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from carbonpilot.agents.dueling import DuelingHead, DuelingNetwork, DuelingPolicy
from carbonpilot.agents.masked_replay import MaskedReplay, MaskedSamples
from carbonpilot.agents.q_learning import VectorDQN, VectorQRDQN, random_allowed, spread_evenly
from carbonpilot.agents.sb3_weights import extract_network, sb3_outputs
from carbonpilot.envs.sb3_vec_env import make_sb3_env

GAMMA = 0.5
# Two transitions, three placements: what each network says of the next request.
ONLINE = torch.tensor([[1.0, 9.0, 5.0], [7.0, 2.0, 3.0]])
TARGET = torch.tensor([[10.0, 20.0, 40.0], [11.0, 60.0, 50.0]])


def drawn(next_masks) -> MaskedSamples:
    nothing = torch.zeros(2, 4)
    rewards, dones = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[0.0], [0.0]])
    return MaskedSamples(nothing, torch.zeros(2, 1), nothing, dones, rewards, torch.tensor(next_masks))


ALL = [[True, True, True], [True, True, True]]
SOME = [[True, False, True], [False, True, True]]


@pytest.fixture
def dqn(lab, tmp_path):
    env = make_sb3_env(lab.site(tmp_path), 4, seed=0)
    model = VectorDQN(
        "MlpPolicy", env, gamma=GAMMA, replay_buffer_class=MaskedReplay, buffer_size=64, target_update_interval=64,
        device="cpu",
    )  # fmt: skip
    model.q_net.forward = lambda observation: ONLINE
    model.q_net_target.forward = lambda observation: TARGET
    return model


@pytest.mark.parametrize(
    ("double", "masks", "expected"),
    [
        (False, ALL, [-1 + 0.5 * 40, -2 + 0.5 * 60]),  # the target network's own best
        (True, ALL, [-1 + 0.5 * 20, -2 + 0.5 * 11]),  # placements 1 and 0 are the online network's best
        (False, SOME, [-1 + 0.5 * 40, -2 + 0.5 * 60]),
        (True, SOME, [-1 + 0.5 * 40, -2 + 0.5 * 50]),  # with those forbidden it is placement 2 in both
    ],
)
def test_target_is_the_one_worked_out_by_hand(dqn, double, masks, expected):
    dqn.double = double
    np.testing.assert_allclose(dqn.targets(drawn(masks)).squeeze(1), expected)


def test_no_value_follows_a_real_end(dqn):
    transitions = drawn(ALL)._replace(dones=torch.tensor([[1.0], [0.0]]))
    np.testing.assert_allclose(dqn.targets(transitions).squeeze(1), [-1, -2 + 0.5 * 60])


@pytest.mark.parametrize(
    ("double", "expected"), [(False, [[5.5, 9], [12, 18]]), (True, [[1.5, 3], [3.5, 7.5]])]
)
def test_quantile_target_takes_the_quantiles_of_the_best_by_their_mean(lab, tmp_path, double, expected):
    env = make_sb3_env(lab.site(tmp_path), 4, seed=0)
    model = VectorQRDQN(
        "MlpPolicy", env, gamma=GAMMA, replay_buffer_class=MaskedReplay, buffer_size=64, target_update_interval=64,
        policy_kwargs={"n_quantiles": 2}, device="cpu",
    )  # fmt: skip
    online = torch.tensor([[[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]], [[9.0, 1.0, 0.0], [9.0, 1.0, 0.0]]])
    target = torch.tensor([[[5.0, 9.0, 13.0], [8.0, 9.0, 20.0]], [[11.0, 10.0, 28.0], [19.0, 10.0, 40.0]]])
    model.quantile_net.forward = lambda observation: online
    model.quantile_net_target.forward = lambda observation: target
    model.double = double
    np.testing.assert_allclose(model.targets(drawn(ALL)), expected)


@pytest.fixture
def dueling(lab, tmp_path):
    env = make_sb3_env(lab.site(tmp_path), 4, seed=0)
    return VectorDQN(
        DuelingPolicy, env, seed=1, buffer_size=64, target_update_interval=64, device="cpu",
        policy_kwargs={"net_arch": [12, 8]},
    )  # fmt: skip


def test_dueling_head_is_value_plus_centred_advantage():
    head = DuelingHead(stream=2, actions=3)
    with torch.no_grad():
        head.value.weight.copy_(torch.tensor([[1.0, 2.0]]))
        head.value.bias.fill_(0.5)
        head.advantage.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        head.advantage.bias.copy_(torch.tensor([0.0, 3.0, 0.0]))
    # value: 1 x 1 + 2 x 2 + 0.5 = 5.5; advantages of (3, 4): 3, 7, 7, their mean 17 / 3
    expected = 5.5 + np.array([3.0, 7.0, 7.0]) - 17 / 3
    np.testing.assert_allclose(head(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).detach()[0], expected, rtol=1e-6)


def test_dueling_network_has_its_streams_and_a_plain_twin(dueling):
    network = dueling.q_net
    assert isinstance(network, DuelingNetwork)
    shapes = [tuple(m.weight.shape) for m in network.plain_modules() if isinstance(m, nn.Linear)]
    features, actions = dueling.observation_space.shape[0], int(dueling.action_space.n)
    assert shapes == [(12, features), (16, 12), (actions, 16)]
    batch = torch.randn(50, features)
    plain = nn.Sequential(*network.plain_modules())(batch)
    np.testing.assert_allclose(network(batch).detach(), plain.detach(), rtol=1e-5, atol=1e-5)


def test_dueling_network_can_be_taken_out(dueling):
    network = extract_network(dueling)
    assert network.layers[1:] == [12, 16, int(dueling.action_space.n)]
    observation = np.random.default_rng(0).normal(size=(20, network.layers[0])).astype(np.float32)
    hidden = (observation - network.arrays["mean"]) / network.arrays["std"]
    for i in range(3):
        hidden = hidden @ network.arrays[f"weight_{i}"] + network.arrays[f"bias_{i}"]
        hidden = np.maximum(hidden, 0) if i < 2 else hidden
    np.testing.assert_allclose(hidden, sb3_outputs(dueling, observation), rtol=1e-4, atol=1e-5)


def test_random_placements_are_allowed_and_equally_likely():
    allowed = np.array([[True, False, True, True]] * 9000)
    counts = np.bincount(random_allowed(allowed), minlength=4)
    assert counts[1] == 0
    np.testing.assert_allclose(counts[[0, 2, 3]] / 9000, 1 / 3, atol=0.03)


@pytest.mark.parametrize(
    ("share", "count", "marked"), [(0.5, 8, 4), (0.25, 8, 2), (0.0, 5, 0), (1.0, 5, 5), (0.1, 4, 0)]
)
def test_greedy_environments_are_spread_evenly(share, count, marked):
    marks = spread_evenly(share, count)
    assert (len(marks), marks.sum()) == (count, marked)
    if 0 < marked < count:
        assert len(set(np.diff(np.flatnonzero(marks)))) == 1


def test_greedy_environments_never_explore_and_alone_count(lab, tmp_path):
    env = make_sb3_env(lab.site(tmp_path), 32, seed=0)
    model = VectorDQN("MlpPolicy", env, seed=0, device="cpu", buffer_size=64, target_update_interval=64)
    observation = env.reset()
    best, _ = model.predict(observation, deterministic=True)
    model.greedy, model.exploration_rate, model._last_obs = spread_evenly(0.25, 32), 1.0, observation
    placed = np.array([model._sample_action(learning_starts=0, n_envs=32)[0] for _ in range(30)])
    assert (placed[:, model.greedy] == best[model.greedy]).all()
    assert (placed[:, ~model.greedy] != best[~model.greedy]).mean() > 0.6
    np.testing.assert_array_equal(model.representative, model.greedy)
    model._sample_action(learning_starts=10, n_envs=32)
    assert not model.representative.any(), "before learning starts all are random"
    model.greedy = np.zeros(32, dtype=bool)
    model.exploration_rate = 0.5
    chosen = model._sample_action(learning_starts=0, n_envs=32)[0]
    assert (chosen[model.representative] == best[model.representative]).all()
    assert 0 < model.representative.sum() < 32
