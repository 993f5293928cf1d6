"""Learning from lessons: every kind of SB3 policy learns a separable toy, masks hold, the critic learns values."""

import numpy as np
import pytest
import torch

from carbonpilot.agents.algorithms import build_model
from carbonpilot.agents.teach.frozen_actor import FrozenActor, actor_parameters
from carbonpilot.agents.teach.learning import judged, learn
from carbonpilot.agents.teach.lessons import Lessons, joined
from carbonpilot.agents.teach.settings import FitConfig, StageConfig
from carbonpilot.agents.teach.students import student_of
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import training_env
from carbonpilot.agents.training_guard import one_torch_thread
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.sb3_vec_env import make_sb3_env

SMALL = {"num_envs": 4, "n_steps": 16, "batch_size": 32, "hidden": [32, 32]}
SMALL_Q = {"num_envs": 4, "buffer_size": 64, "hidden": [32, 32]}


@pytest.fixture(autouse=True)
def one_thread():
    with one_torch_thread():
        yield


FIT = FitConfig(batch_size=64, value_coef=0.5, max_grad_norm=1.0, temperature=0.3)


def stage(epochs, loss="regress"):
    return StageConfig(
        tapes=1, every=1, lookahead=0, epochs=epochs, loss=loss, learning_rate=3e-3, explore=0.0
    )


def made(scenario, algo, **changes):
    small = SMALL_Q if "dqn" in algo else SMALL
    settings, _ = load_training_config(algo, "none", "none", None, {**small, "constraint": None, **changes})
    site = make_sb3_env(scenario, settings.num_envs, 0)
    env = training_env(site, settings, True, None)
    features = len(site.simulator.table)
    mean, std = np.zeros(features, np.float32), np.ones(features, np.float32)
    return build_model(algo, settings, scenario, env, mean, std, 0), features


def toy(features, seed, size=1500):
    """The second placement is the cheapest where two features add up to more than nothing; values follow another."""
    rng = np.random.default_rng(seed)
    observation = np.zeros((size, features), np.float32)
    observation[:, :5] = rng.normal(size=(size, 5))  # two of them say nothing
    side = observation[:, 0] + observation[:, 1]
    cost = np.stack([np.zeros(size), -side], axis=1) + rng.random((size, 1))
    return Lessons(
        observation,
        np.ones((size, 2), dtype=bool),
        cost.astype(np.float32),
        (side > 0).astype(np.int64),
        (3 * observation[:, 2]).astype(np.float32),
        np.arange(size) % 8,
    )


@pytest.mark.parametrize(
    ("algo", "loss"),
    [
        ("ppo", "regress"),
        ("ppo", "cost"),
        ("ppo", "label"),
        ("maskable-ppo", "regress"),
        ("dqn", "regress"),
        ("qrdqn", "regress"),
    ],
)
def test_separable_toy_is_learned(tiny_scenario, algo, loss):
    model, features = made(tiny_scenario(), algo)
    student = student_of(model, features, FIT)
    before, _ = judged(student, toy(features, 9))
    fitted = learn(student, toy(features, 1), 1.0, 1.0, FIT, stage(20, loss), np.random.default_rng(0))
    agreement, regret_mg = judged(student, toy(features, 9))
    assert before < 0.8
    assert agreement > 0.95
    assert fitted.agreement > 0.95
    assert 0 <= regret_mg < 0.03
    assert fitted.updates == 20 * (1312 // 64)
    assert model.policy.training is False


def test_regression_learns_the_expected_cost_where_the_label_is_not_in_the_observation(tiny_scenario):
    """Remote is cheapest in 9 of 10 lessons and very dear in the tenth: right is local, which labels never say."""
    model, features = made(tiny_scenario(), "ppo")
    lessons = toy(features, 1)
    dear = np.random.default_rng(0).random(len(lessons)) < 0.1
    lessons.cost_mg[:] = np.stack([np.zeros(len(lessons)), np.where(dear, 5.0, -0.1)], axis=1)
    student = student_of(model, features, FIT)
    learn(student, lessons, 1.0, 1.0, FIT, stage(5), np.random.default_rng(0))
    assert (student.choose(lessons.observation, lessons.mask) == 0).mean() > 0.95
    model, _ = made(tiny_scenario(), "ppo")
    student = student_of(model, features, FIT)
    learn(student, lessons, 1.0, 1.0, FIT, stage(5, "label"), np.random.default_rng(0))
    assert (student.choose(lessons.observation, lessons.mask) == 1).mean() > 0.95


@pytest.mark.parametrize("algo", ["ppo", "maskable-ppo", "dqn"])
def test_masked_placements_are_neither_labels_nor_choices(tiny_scenario, algo):
    model, features = made(tiny_scenario(), algo)
    lessons = toy(features, 1)
    lessons.mask[:, 1] = False
    lessons.cost_mg[:, 1] = -100.0  # tempting, and not there
    assert (lessons.label == 0).all()
    student = student_of(model, features, FIT)
    fitted = learn(student, lessons, 1.0, 1.0, FIT, stage(1), np.random.default_rng(0))
    assert np.isfinite(fitted.loss)
    assert (student.choose(lessons.observation, lessons.mask) == 0).all()


def test_critic_and_q_values_meet_the_discounted_rewards(tiny_scenario):
    lessons = toy(made(tiny_scenario(), "ppo")[1], 1)
    for algo in ("ppo", "dqn"):
        model, features = made(tiny_scenario(), algo)
        student = student_of(model, features, FIT)
        learn(student, lessons, 2.0, 0.5, FIT, stage(30), np.random.default_rng(0))
        with torch.no_grad():
            observation = torch.as_tensor(lessons.observation)
            if algo == "ppo":
                got = model.policy.predict_values(observation).numpy()[:, 0]
            else:
                got = model.q_net(observation).numpy()[np.arange(len(lessons)), lessons.taken]
                target = model.q_net_target(observation).numpy()[np.arange(len(lessons)), lessons.taken]
                np.testing.assert_array_equal(got, target)
        error = got - 0.5 * lessons.value
        assert error.std() < 0.3 * (0.5 * lessons.value).std(), algo


def test_q_values_tell_placements_apart_by_their_costs(tiny_scenario):
    model, features = made(tiny_scenario(), "dqn")
    lessons = toy(features, 1)
    learn(
        student_of(model, features, FIT),
        lessons,
        2.0,
        0.5,
        FIT,
        stage(40),
        np.random.default_rng(0),
    )
    with torch.no_grad():
        q = model.q_net(torch.as_tensor(lessons.observation)).numpy()
    wanted = -2.0 * 0.5 * (lessons.cost_mg[:, 1] - lessons.cost_mg[:, 0])  # reward per mg x scale
    assert np.corrcoef(q[:, 1] - q[:, 0], wanted)[0, 1] > 0.97


def test_what_has_a_memory_is_refused(tiny_scenario):
    model, features = made(tiny_scenario(), "ppo", stack=2)
    with pytest.raises(InputError, match=r"teaches single observations .* `stack: 1`"):
        student_of(model, features, FIT)
    model, features = made(tiny_scenario(), "recurrent-ppo")
    with pytest.raises(InputError, match="teaches single observations"):
        student_of(model, features, FIT)


def test_joined_lessons_keep_tapes_apart():
    parts = [toy(6, seed, size=16) for seed in (1, 2)]
    both = joined(parts)
    assert len(both) == 32
    assert len(np.unique(both.tape)) == 16
    np.testing.assert_array_equal(parts[1].tape, np.arange(16) % 8)


def test_actor_rests_until_the_critic_has_learned(tiny_scenario):
    model, _ = made(tiny_scenario(), "ppo")
    actor = actor_parameters(model.policy)
    critic = [p for p in model.policy.parameters() if all(p is not a for a in actor)]
    assert actor
    assert critic
    was = [p.detach().clone() for p in (*actor, *critic)]
    model.learn(128, callback=FrozenActor(128))
    now = [p.detach() for p in (*actor, *critic)]
    same = [torch.equal(a, b) for a, b in zip(was, now, strict=True)]
    assert all(same[: len(actor)])
    assert not all(same[len(actor) :])
    model.learn(64, callback=FrozenActor(128), reset_num_timesteps=False)
    assert not all(torch.equal(a, b) for a, b in zip(was, [p.detach() for p in actor], strict=False))
    assert all(p.requires_grad for p in (*actor, *critic))
