"""Every registered id passes both checkers without warnings; vector = single; golden tapes pin versions."""

import json
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_for_sb3
from stable_baselines3.common.vec_env import VecMonitor

import carbonpilot.envs  # noqa: F401 - registers the ids
from carbonpilot.envs.placement_vector_env import PlacementVectorEnv
from carbonpilot.envs.registration import GENERAL_ID, scenario_id
from carbonpilot.envs.sb3_vec_env import make_sb3_env
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios
from carbonpilot.envs.schema import Scenario

TRACES = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
GOLDEN = Path(__file__).resolve().parent / "golden_tapes.json"
IDS = [GENERAL_ID, *(scenario_id(name) for name in shipped_scenarios())]


def kwargs_for(env_id):
    """Scenarios on trace files need the folder."""
    spec = gym.spec(env_id)
    if load_scenario(spec.kwargs.get("scenario", "metro")).split != "traces":
        return {}
    if not TRACES.is_dir():
        pytest.skip("reads recorded traces, which are not here")
    return {"traces_dir": TRACES}


@pytest.mark.parametrize("env_id", IDS)
def test_checkers_pass_without_warnings(env_id):
    env = gym.make(env_id, render_mode="ansi", **kwargs_for(env_id)).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=False)
        check_for_sb3(env)


def first_requests(env_id):
    """What the first 40 requests of a seed look like: mean of each feature, sum of the rewards."""
    env = gym.make(env_id, part="evaluation", **kwargs_for(env_id))
    observation, _ = env.reset(seed=12)
    seen, rewards = [observation], []
    for n in range(40):
        action = n % env.action_space.n
        observation, reward, *_ = env.step(action if env.unwrapped.action_masks()[action] else 0)
        seen.append(observation)
        rewards.append(reward)
    return {
        "features": np.mean(seen, axis=0, dtype=np.float64).round(4).tolist(),
        "reward": round(sum(rewards), 4),
    }


@pytest.mark.parametrize("env_id", IDS)
def test_golden_tapes(env_id):
    """A change of behaviour is a new version: what a seed gives may not move (beyond rounding of other machines)."""
    found, known = first_requests(env_id), json.loads(GOLDEN.read_text())
    assert env_id in known, f"new id: add {json.dumps({env_id: found})} to {GOLDEN.name}"
    message = "behaviour changed: register a new version, or say in the CHANGELOG why not"
    assert found["features"] == pytest.approx(known[env_id]["features"], abs=2e-3), message
    assert found["reward"] == pytest.approx(known[env_id]["reward"], abs=1e-2), message


def test_make_vec_gives_the_native_vector_environment():
    env = gym.make_vec(GENERAL_ID, num_envs=3, vectorization_mode="vector_entry_point", scenario="metro-mild")
    assert isinstance(env, PlacementVectorEnv)
    assert env.scenario.name == "metro-mild"
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP


def short(requests=30):
    data = load_scenario("metro").model_dump(by_alias=True)
    return Scenario.model_validate(data | {"episode": {"requests": requests}})


def test_vector_environment_equals_gymnasiums_own_vectorisation():
    """Step for step over two episodes, restarts included."""
    scenario = short()
    ours = PlacementVectorEnv(3, scenario=scenario)
    theirs = gym.vector.SyncVectorEnv([lambda: gym.make(GENERAL_ID, scenario=scenario)] * 3)
    a, b = ours.reset(seed=5)[0], theirs.reset(seed=5)[0]
    np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng(0)
    for _ in range(70):
        actions = rng.integers(0, ours.single_action_space.n, 3)
        mine, other = ours.step(actions), theirs.step(actions)
        for x, y in zip(mine[:4], other[:4], strict=True):
            np.testing.assert_array_equal(x, y)
    theirs.close()


def test_observations_and_outcomes_are_never_reused():
    env = PlacementVectorEnv(4, scenario=short())
    first = env.reset(seed=0)[0]
    kept, second = first.copy(), env.step(np.zeros(4, dtype=int))
    third = env.step(np.ones(4, dtype=int))
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(second[0], third[0])
    assert not np.shares_memory(second[4]["latency_ms"], third[4]["latency_ms"])


def test_info_holds_the_documented_keys_and_rewards_add_up():
    env = gym.make(GENERAL_ID)
    _, info = env.reset(seed=3)
    assert info["action_mask"].tolist() == [True] * env.action_space.n
    for n in range(20):
        _, reward, terminated, truncated, info = env.step(n % env.action_space.n)
        assert not terminated
        assert not truncated
        assert sum(info["rewards"].values()) == pytest.approx(reward)
        terms = ("link_wait_ms", "upload_ms", "rtt_ms", "recovery_ms", "node_wait_ms", "service_ms")
        assert sum(info[t] for t in terms) == pytest.approx(info["latency_ms"])
        assert info["missed"] == (info["latency_ms"] > 150)
        assert info["placement"] == env.unwrapped.placement_names[n % env.action_space.n]
        assert info["carbon_mg_attributional"] >= info["carbon_mg_marginal"] >= 0


def test_episode_ends_by_truncation_only():
    env = gym.make(GENERAL_ID, scenario=short())
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


def test_renderings_show_the_episode():
    env = gym.make(GENERAL_ID, render_mode="rgb_array")
    env.reset(seed=0)
    empty = env.render()
    for n in range(60):
        env.step(n % 5)
    image = env.render()
    assert image.shape == empty.shape
    assert image.dtype == np.uint8
    assert np.mean(image != empty) > 0.005
    text_env = gym.make(GENERAL_ID, render_mode="ansi")
    text_env.reset(seed=0)
    text_env.step(1)
    text = text_env.render()
    assert "edge-b0" in text
    assert "SLO 150 ms" in text


def test_sb3_adapter_reports_episodes_and_restarts():
    env = VecMonitor(make_sb3_env(short(), 4, seed=0))
    first = env.reset()
    for n in range(30):
        observation, _, done, infos = env.step(np.full(4, n % 5))
    assert done.all()
    assert observation.shape == first.shape
    for info in infos:
        metrics = info["episode_metrics"]
        assert info["TimeLimit.truncated"]
        assert info["terminal_observation"].shape == (first.shape[1],)
        assert metrics["requests"] == 30
        assert sum(metrics["placement_share"].values()) == pytest.approx(1)
        parts = sum(metrics[f"reward_{t}"] for t in ("carbon", "slo_miss", "latency_excess", "accuracy"))
        assert parts * 30 == pytest.approx(info["episode"]["r"], rel=1e-4)
    assert not np.array_equal(observation, first)
    assert env.env_method("action_masks")[0].tolist() == [True] * 5


def test_same_seed_same_training_stream():
    a, b, c = (make_sb3_env(short(), 4, seed=s).reset() for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
