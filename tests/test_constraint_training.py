"""The constraint inside training: what the learner is paid, what is logged, what a checkpoint keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from carbonpilot.agents.constraint import FILE, PidLagrangian
from carbonpilot.agents.masked_replay import MaskedReplay
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import training_env
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.sb3_vec_env import make_sb3_env

ENVS, SCALE = 16, 0.25
WINDOW = {"constraint": {"update_steps": 256}}


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


def environment(site, budget_gain=0.0, start=7.0, constrained=True):
    changes = {"constraint": {"budget_gain": budget_gain, "start": start}, "reward_scale": SCALE}
    settings = load_training_config("ppo", "x", "x", changes=changes)[0]
    base = make_sb3_env(site, ENVS, seed=3)
    constraint = PidLagrangian(settings.constraint, base.scenario.slo) if constrained else None
    return base, training_env(base, settings, True, constraint), constraint


def play(env, steps, seed=0):
    """Random placements; yields the observation before each step and the reward after it."""
    rng, observation = np.random.default_rng(seed), env.reset()
    for _ in range(steps):
        before = observation.copy()
        observation, reward, _, _ = env.step(rng.integers(0, env.action_space.n, ENVS))
        yield before, reward


def test_the_reward_is_the_recomputed_sum(site):
    base, env, constraint = environment(site)
    missed = 0
    for i, (_, reward) in enumerate(play(env, 60)):
        terms = base.outcome.reward_terms
        other = terms["carbon"] + terms["latency_excess"] + terms["accuracy"]
        expected = SCALE * (other - constraint.multiplier * base.outcome.missed)
        np.testing.assert_allclose(reward, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reward, env.rest - constraint.multiplier * env.costs, rtol=1e-6)
        np.testing.assert_array_equal(env.missed, base.outcome.missed)
        missed += base.outcome.missed.sum()
        constraint.multiplier = 2.0 + i  # what the controller will do
    assert missed > 20, "a test without misses shows nothing"


def test_without_a_constraint_the_scenarios_own_weight_holds(site):
    base, env, _ = environment(site, constrained=False)
    for _, reward in play(env, 30):
        np.testing.assert_allclose(reward, SCALE * base.outcome.records["reward"], rtol=1e-6)
        assert env.costs is None
        assert env.multiplier == 0


def test_a_miss_is_dearer_when_the_budget_runs_out(site):
    base, env, _ = environment(site, budget_gain=2.0)
    table, factors = base.simulator.table, []
    for before, _ in play(env, 39):
        spent, progress = (
            before[:, table.index[name]] * table.scale[table.index[name]]
            for name in ("slo_budget_spent", "progress")
        )
        expected = np.exp(np.clip(2.0 * (spent - progress), -2, 2))
        missed = base.outcome.missed
        np.testing.assert_allclose(env.costs[missed], SCALE * expected[missed], rtol=1e-5)
        np.testing.assert_array_equal(env.costs[~missed], 0)
        np.testing.assert_allclose(env.weights, expected, rtol=1e-5)
        factors.extend(expected[missed])
    assert min(factors) < 0.9
    assert max(factors) > 2


def test_old_transitions_are_judged_by_the_present_multiplier(site):
    base, env, _ = environment(site)
    buffer = MaskedReplay(64 * ENVS, base.observation_space, base.action_space, n_envs=ENVS)
    for before, _ in play(env, 32):
        buffer.note(env.costs, base.action_masks())
        done = np.zeros(ENVS, dtype=bool)
        buffer.add(before, before, np.zeros((ENVS, 1)), env.rest, done, [{} for _ in range(ENVS)])
    rest, costs = buffer.rewards[:32].ravel(), buffer.costs[:32].ravel()
    for multiplier in (1.0, 30.0):
        buffer.multiplier = multiplier
        drawn = buffer.sample(4000).rewards.numpy()
        possible = rest - np.float32(multiplier) * costs
        assert set(np.unique(drawn)) <= set(possible), "every drawn reward is one that holds now"
        assert drawn.mean() == pytest.approx(possible.mean(), rel=0.15)


@pytest.mark.parametrize("algo", ["maskable-ppo", "dqn"])
def test_multiplier_is_logged_and_survives_a_resume(lab, site, tmp_path, algo):
    out = tmp_path / "run"
    lab.train(site, out, 2048, algo, settings=WINDOW)
    events = EventAccumulator(str(out / "tb")).Reload()
    tags = {f"constraint/{name}" for name in ("multiplier", "miss_rate", "target")}
    assert tags <= set(events.Tags()["scalars"])
    share = RunDir(out).config["settings"]["constraint"]["target_share_alone"]
    assert events.Scalars("constraint/target")[-1].value == pytest.approx(share * 0.05)
    assert RunDir(out).config["settings"]["constraint"]["update_steps"] == 256
    saved = json.loads((RunDir(out).checkpoints()[-1].folder / FILE).read_text())
    assert saved["multiplier"] != RunDir(out).config["settings"]["constraint"]["start"]
    assert events.Scalars("constraint/multiplier")[-1].value == pytest.approx(saved["multiplier"], rel=0.2)

    started = []
    original = PidLagrangian.load

    def load(self, folder):
        original(self, folder)
        started.append(self.state())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PidLagrangian, "load", load)
        lab.train(site, out, 2560, algo, settings=WINDOW, resume=True)
    assert started == [{key: saved[key] for key in started[0]}]


def test_a_fixed_penalty_needs_no_state(lab, site, tmp_path):
    out = tmp_path / "run"
    lab.train(site, out, 512, settings={"constraint": None})
    assert not (RunDir(out).checkpoints()[-1].folder / FILE).exists()
    tags = EventAccumulator(str(out / "tb")).Reload().Tags()["scalars"]
    assert not [tag for tag in tags if tag.startswith("constraint/")]
    with pytest.raises(InputError, match=r"settings\.constraint.* now "):
        lab.train(site, out, 1024, resume=True)


def test_random_placements_do_not_move_the_multiplier(lab, site, tmp_path):
    """All of a Q-learner's first placements are random and miss a lot; no window may come of them."""
    out = tmp_path / "run"
    changes = {"learning_starts": 10_000, "constraint": {"update_steps": 64}}
    lab.train(site, out, 1024, "dqn", settings=changes)
    saved = json.loads((RunDir(out).checkpoints()[-1].folder / FILE).read_text())
    assert saved["window"] == {"missed": 0, "weighted": 0, "requests": 0}
    assert saved["miss_rate"] is None


def test_an_observation_that_is_no_number_ends_the_training_with_its_name(site):
    base, env, _ = environment(site)
    env.reset()
    original = base.simulator.step

    def broken(actions):
        result = original(actions)
        result.observation[5, base.simulator.table.index["payload_kb"]] = np.nan
        return result

    base.simulator.step = broken
    with pytest.raises(
        CarbonPilotError, match="Environment 5 gave an observation that is no number: payload_kb"
    ):
        env.step(np.zeros(ENVS, dtype=np.int64))


def test_a_mask_with_nothing_allowed_ends_the_training(site):
    base, env, _ = environment(site)
    masks = np.ones((ENVS, int(base.action_space.n)), dtype=bool)
    masks[9] = False
    base.simulator.masks = lambda: masks
    with pytest.raises(CarbonPilotError, match="Environment 9 allows no placement at all"):
        env.reset()
