"""A network says nothing about a feature that stood still in training, however far it jumps afterwards."""

import numpy as np
import pytest
import torch
from risk_builder import make_risk, simulated_observations

from carbonpilot.agents.algorithms import build_model
from carbonpilot.agents.normalizer import SMALLEST_STD, measure
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.agents.training_env import training_env
from carbonpilot.agents.unmoved_inputs import begin_at_zero, unmoved
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.sb3_vec_env import make_sb3_env
from carbonpilot.envs.scenario import load_scenario

AGE = "feed_age_h"
SMALL = {"num_envs": 4, "n_steps": 16, "batch_size": 32, "hidden": [32, 32], "constraint": None}
SMALL_Q = {"num_envs": 4, "buffer_size": 64, "hidden": [32, 32], "constraint": None}
ALGORITHMS = ["ppo", "maskable-ppo", "dqn", "qrdqn"]


def untrained(algo, scenario, risk=None, **changes):
    """A model as a training of the site begins with it, and a function from observations to what it says."""
    small = SMALL_Q if "dqn" in algo else SMALL
    settings, _ = load_training_config(algo, "none", "none", None, {**small, **changes})
    env = training_env(make_sb3_env(scenario, settings.num_envs, 0), settings, True, None)
    observations = simulated_observations(scenario, 1000, part="training")
    mean, std = measure(observations)
    if risk is not None:
        mean, std = risk.arrays["mean"], risk.arrays["std"]
    model = build_model(algo, settings, scenario, env, mean, std, 0, risk)
    return model, np.tile(observations[-50:], settings.stack), std


def said(model, observation):
    """Logits or Q values, and values where there is a critic."""
    policy, seen = model.policy, torch.as_tensor(observation)
    with torch.no_grad():
        if hasattr(policy, "predict_values"):
            logits = policy.get_distribution(seen).distribution.logits
            return torch.cat([logits, policy.predict_values(seen)], dim=1).numpy()
        network = policy.quantile_net if hasattr(policy, "quantile_net") else policy.q_net
        return network(seen).reshape(len(observation), -1).numpy()


def silent(scenario, observation, stack=1):
    """The same with feeds that have been silent for a day."""
    changed, table = observation.copy(), build_table(scenario)
    changed[:, table.index[AGE] :: len(table)][:, :stack] = 24 / table.scale[table.index[AGE]]
    return changed


@pytest.fixture(scope="module")
def metro():
    return load_scenario("metro")


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("stack", [1, 2])
def test_a_feed_that_falls_silent_changes_nothing_where_feeds_were_never_silent(metro, algo, stack):
    model, observation, std = untrained(algo, metro, stack=stack)
    assert unmoved(std)[build_table(metro).index[AGE]], "feeds of metro are an hour old"
    np.testing.assert_array_equal(said(model, silent(metro, observation, stack)), said(model, observation))


def test_without_it_the_feed_would_speak(metro):
    model, observation, std = untrained("ppo", metro)
    for parameter in model.policy.mlp_extractor.parameters():
        torch.nn.init.normal_(parameter)
    assert not np.array_equal(said(model, silent(metro, observation)), said(model, observation))
    begin_at_zero(model.policy, std)
    np.testing.assert_array_equal(said(model, silent(metro, observation)), said(model, observation))


def test_a_feature_that_moves_keeps_its_weights(metro):
    model, _, std = untrained("ppo", metro)
    moves = ~unmoved(std)
    assert moves.sum() > 0.8 * len(std)
    weight = model.policy.mlp_extractor.policy_net[0].weight.detach().numpy()
    assert (np.abs(weight[:, : len(std)]).sum(axis=0)[moves] > 0).all()
    assert (weight[:, : len(std)][:, ~moves] == 0).all()


def test_where_feeds_fall_silent_in_training_they_count():
    wide = load_scenario("metro-wide")
    model, observation, _ = untrained("ppo", wide)
    assert not np.array_equal(said(model, silent(wide, observation)), said(model, observation))


def test_over_a_risk_head_too_and_after_learning(metro, lab, tmp_path):
    risk = read_risk(make_risk(tmp_path / "risk", metro))
    assert (risk.arrays["std"][unmoved(risk.arrays["std"])] == SMALLEST_STD).all()
    model, observation, _ = untrained("ppo", metro, risk)
    _, head_sees = (risk.head.logits(o) for o in (observation, silent(metro, observation)))
    shown = model.policy.extract_features(torch.as_tensor(silent(metro, observation)))
    assert np.isfinite(head_sees).all()
    assert shown.shape[1] == len(build_table(metro)) + 2 * len(metro.placements)
    actor = model.policy.mlp_extractor.policy_net[0].weight.detach().numpy()
    assert (actor[:, build_table(metro).index[AGE]] == 0).all()
    site = lab.site(tmp_path)
    lab.train(site, tmp_path / "run", 2 * lab.rollout)
    trained = Sb3Policy.load(tmp_path / "run", load_scenario(site)).model
    np.testing.assert_allclose(
        said(trained, silent(metro, observation)), said(trained, observation), atol=1e-5
    )
