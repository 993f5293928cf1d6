"""The same seed gives the same agent; the normaliser comes from training tapes alone."""

import numpy as np
import pytest
import torch

from carbonpilot.agents import training_plan
from carbonpilot.agents.algorithms import VectorDQN, load_model
from carbonpilot.agents.normalizer import SMALLEST_STD
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.training_plan import make_plan, measure_normalizer, session_seed
from carbonpilot.envs.sb3_vec_env import make_sb3_env


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


def weights(lab, site, algo, seed, out):
    lab.train(site, out, 512, algo, seed=seed)
    return load_model(algo, out / "model.zip").policy.state_dict()


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_same_seed_same_weights(lab, site, tmp_path, algo):
    first, again = (weights(lab, site, algo, 1, tmp_path / name) for name in ("first", "again"))
    other = weights(lab, site, algo, 2, tmp_path / "other")
    assert first.keys() == again.keys()
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    trained = [name for name in first if name.endswith("weight")]
    assert trained
    assert not any(torch.equal(first[name], other[name]) for name in trained)


def test_normalizer_is_inside_the_model_and_frozen(lab, site, tmp_path):
    weights(lab, site, "ppo", 1, tmp_path / "run")
    mean, std = RunDir(tmp_path / "run").normalizer
    extractor = load_model("ppo", tmp_path / "run" / "model.zip").policy.features_extractor
    np.testing.assert_array_equal(extractor.mean.numpy(), mean)
    np.testing.assert_array_equal(extractor.std.numpy(), std)
    assert not list(extractor.parameters())


def test_normalizer_is_measured_on_training_tapes_only(lab, site, monkeypatch):
    parts = []

    class Watched(training_plan.Simulator):
        def __init__(self, scenario, batch, part="training", **options):
            parts.append(part)
            super().__init__(scenario, batch, part=part, **options)

    monkeypatch.setattr(training_plan, "Simulator", Watched)
    plan = make_plan(site, "ppo", 1024, 1, None, None, lab.small_ppo)
    mean, std = measure_normalizer(plan)
    assert parts == ["training"]
    assert mean.dtype == std.dtype == np.float32
    assert (std > 0).all()
    again, _ = measure_normalizer(plan)
    np.testing.assert_array_equal(mean, again)


def test_normalizer_brings_random_play_near_zero_and_one(lab, site):
    plan = make_plan(site, "ppo", 1024, 1, None, None, {**lab.small_ppo, "normalizer_steps": 40})
    mean, std = measure_normalizer(plan)
    env = make_sb3_env(plan.scenario, 64, seed=7)
    rng = np.random.default_rng(7)
    seen = [env.reset()]
    for _ in range(30):
        env.step_async(rng.integers(0, env.action_space.n, 64))
        seen.append(env.step_wait()[0].copy())
    moving = std > SMALLEST_STD  # the rest is constant in this scenario
    normal = ((np.concatenate(seen) - mean) / std)[:, moving]
    assert np.abs(np.median(normal, axis=0)).max() < 3
    assert normal.std(axis=0).mean() == pytest.approx(1, abs=0.35)


def test_session_seeds_differ():
    seeds = {session_seed(seed, steps) for seed in range(20) for steps in (0, 8192, 16384)}
    assert len(seeds) == 60


def test_environments_explore_independently(site):
    """SB3 itself lets all environments explore in the same step."""
    env = make_sb3_env(site, 64, seed=0)
    model = VectorDQN("MlpPolicy", env, seed=0, device="cpu", buffer_size=64, target_update_interval=64)
    observation = env.reset()
    greedy, _ = model.predict(observation, deterministic=True)
    model.exploration_rate = 0.5
    differing = [np.mean(model.predict(observation)[0] != greedy) for _ in range(50)]
    expected = 0.5 * (1 - 1 / env.action_space.n)
    assert np.mean(differing) == pytest.approx(expected, abs=0.05)
    assert min(differing) > 0.05
    assert max(differing) < 0.95
    model.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(observation)[0], greedy)
