"""The frozen policy and its ONNX file against the stable-baselines3 model that they come from."""

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from torch import nn

from carbonpilot.agents import export as export_module
from carbonpilot.agents.bundle import GRAPH_FILE, WEIGHTS_FILE
from carbonpilot.agents.compatibility import check_compatible
from carbonpilot.agents.export import Origin, export_model
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.normalizer import SMALLEST_STD, FixedNormalizer, measure
from carbonpilot.agents.parity import Parity, compare, random_observations, run_onnx
from carbonpilot.agents.sb3_weights import extract_network, sb3_outputs
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256

COUNT = 10_000


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other make these tiny networks many times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Noise(gymnasium.Env):
    """Any environment of the right size: what is learned from it does not matter."""

    def __init__(self, high=None, actions=3):
        high = np.linspace(0.5, 50, 9, dtype=np.float32) if high is None else high
        self.observation_space = gymnasium.spaces.Box(np.zeros_like(high), high)
        self.action_space = gymnasium.spaces.Discrete(actions)

    def _observation(self):
        box = self.observation_space
        return self.np_random.uniform(box.low, box.high).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        reward = 100 * self.np_random.standard_normal() + 300 * int(action)
        return self._observation(), reward, False, bool(self.np_random.random() < 0.05), {}


def normaliser(mean, std):
    return {
        "features_extractor_class": FixedNormalizer,
        "features_extractor_kwargs": {"mean": mean, "std": std},
    }


KINDS = {
    "ppo": (PPO, {"net_arch": {"pi": [24, 16], "vf": [8]}}),
    "ppo-relu-own-features": (
        PPO,
        {"net_arch": [20], "activation_fn": nn.ReLU, "share_features_extractor": False},
    ),
    "ppo-linear": (PPO, {"net_arch": []}),
    "dqn": (DQN, {"net_arch": [32, 24, 16]}),
    "dqn-tanh": (DQN, {"net_arch": [16], "activation_fn": nn.Tanh}),
    "qrdqn": (QRDQN, {"net_arch": [16, 16], "n_quantiles": 7}),
}


def learn_a_moment(algorithm, env, policy_kwargs, steps=400):
    fast = {"n_steps": 64, "n_epochs": 4} if algorithm is PPO else {"learning_starts": 64}
    model = algorithm(
        "MlpPolicy", env, policy_kwargs=policy_kwargs, seed=1, device="cpu", learning_rate=3e-3, **fast
    )
    return model.learn(steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("powers", [True, False], ids=["folded", "divided"])
def test_every_kind_of_network_is_frozen_faithfully(kind, powers):
    algorithm, policy_kwargs = KINDS[kind]
    env = Noise()
    sample = np.array([env.reset(seed=i)[0] for i in range(200)])
    mean, std = measure(sample)
    std = std if powers else std * np.float32(1.1)
    model = learn_a_moment(algorithm, env, {**policy_kwargs, **normaliser(mean, std)})
    network = extract_network(model)
    card = {
        "network": {"layers": network.layers, "activation": network.activation},
        "observation": {"features": [{"name": str(i)} for i in range(9)]},
    }
    graph = export_module.onnx_graph(network.arrays, network.activation, network.output)
    policy = FrozenPolicy(kind, card, network.arrays)
    observations = random_observations(env.observation_space, mean, std, 2000, seed=3)
    parity = compare(model, policy, graph, observations)
    assert parity.holds, parity
    assert parity.ties < 20
    spread = np.ptp(sb3_outputs(model, observations), axis=0)
    assert (spread > 1e-2).all()  # a constant output would agree with anything
    chosen = model.predict(observations[:300], deterministic=True)[0]
    assert (policy.decide(observations[:300]) == chosen).all()
    assert [policy.decide(o) for o in observations[:300]] == chosen.tolist()
    one = np.array([policy.logits(o) for o in observations[:300]])
    scale = np.maximum(1, np.abs(one).max(axis=1, keepdims=True))
    assert (np.abs(one - policy.logits(observations[:300])) / scale).max() <= 1e-5
    assert run_onnx(graph, observations[:1]).shape == (1, 3)  # the batch is free


def test_the_comparison_sees_a_difference():
    env = Noise()
    model = DQN("MlpPolicy", env, device="cpu", seed=0)
    network = extract_network(model)
    card = {"network": {"layers": network.layers, "activation": network.activation}}
    observations = random_observations(env.observation_space, np.zeros(9), np.ones(9), 500, seed=0)
    network.arrays["bias_2"] = network.arrays["bias_2"] + np.float32([0, 0, 1e-3])
    graph = export_module.onnx_graph(network.arrays, "relu", "q_values")
    parity = compare(model, FrozenPolicy("off", card, network.arrays), graph, observations)
    assert not parity.holds
    assert min(parity.numpy_error, parity.onnx_error) > 1e-5


class Square(FixedNormalizer):
    def forward(self, observations):
        return observations**2


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"activation_fn": nn.ELU}, "Only Linear layers with ReLU or Tanh between all"),
        (
            {**normaliser(np.zeros(9), np.ones(9)), "features_extractor_class": Square},
            "of kind Square cannot",
        ),
    ],
)
def test_what_a_bundle_cannot_hold_is_refused(policy_kwargs, message):
    model = DQN("MlpPolicy", Noise(), policy_kwargs=policy_kwargs, device="cpu")
    with pytest.raises(InputError, match=message):
        extract_network(model)


def test_spaces_that_a_bundle_cannot_hold_are_refused():
    env = Noise()
    env.action_space = gymnasium.spaces.Box(-1, 1, (2,))
    with pytest.raises(InputError, match="Only Discrete actions from 0"):
        extract_network(PPO("MlpPolicy", env, device="cpu", n_steps=64))
    env = Noise()
    env.observation_space = gymnasium.spaces.Discrete(4)
    with pytest.raises(InputError, match="Only observations of one dimension"):
        extract_network(DQN("MlpPolicy", env, device="cpu"))


def test_the_normaliser_is_fixed_and_checks_its_numbers():
    space = Noise().observation_space
    sample = np.random.default_rng(0).normal(5, 2, (1000, 9)).astype(np.float32)
    sample[:, 4] = 3
    mean, std = measure(sample)
    assert std.tolist() == [2.0] * 4 + [SMALLEST_STD] + [2.0] * 4
    extractor = FixedNormalizer(space, mean, std)
    assert list(extractor.parameters()) == []
    normal = extractor(torch.from_numpy(sample)).numpy()
    assert np.abs(normal.mean(axis=0)).max() < 1e-3
    assert normal[:, :4].std(axis=0) == pytest.approx(1, abs=0.1)
    for bad in (np.zeros(9), np.full(9, np.nan), np.ones(8)):
        with pytest.raises(InputError, match="normaliser std"):
            FixedNormalizer(space, mean, bad)


@pytest.fixture(scope="module")
def metro():
    scenario = load_scenario("metro")
    return scenario, build_table(scenario)


@pytest.fixture(scope="module")
def simulated(metro):
    """Observations of evaluation episodes under random placements."""
    from carbonpilot.envs.simulator import Simulator

    scenario, _ = metro
    batch, rng = 100, np.random.default_rng(5)
    simulator = Simulator(scenario, batch, part="evaluation")
    rows = [simulator.reset(np.arange(batch)).copy()]
    while len(rows) * batch < COUNT:
        actions = rng.integers(0, len(scenario.placements), batch)
        rows.append(simulator.step(actions).observation.copy())
    return np.concatenate(rows)


@pytest.fixture(scope="module", params=[PPO, DQN])
def trained(request, metro, simulated, tmp_path_factory):
    """A model that trained on metro for a moment, and its bundle."""
    from carbonpilot.envs.sb3_vec_env import make_sb3_env

    scenario, table = metro
    mean, std = measure(simulated[::10])
    env = make_sb3_env(scenario, 8, seed=0)
    model = learn_a_moment(request.param, env, {"net_arch": [64, 64], **normaliser(mean, std)}, 3000)
    out = tmp_path_factory.mktemp("bundles") / request.param.__name__
    origin = Origin(scenario, table, "carbonpilot train metro --seed 1", [1], 3000, "abc", {"torch": "2"})
    return model, export_model(model, out, origin)


def test_all_three_agree_on_metro(trained, metro, simulated):
    model, bundle = trained
    policy = FrozenPolicy.load(bundle, table_sha256=metro[1].sha256, family=metro[0].family)
    graph = (bundle / GRAPH_FILE).read_bytes()
    arrays = dict(np.load(bundle / WEIGHTS_FILE, allow_pickle=False))
    random = random_observations(model.observation_space, arrays["mean"], arrays["std"], COUNT, seed=11)
    assert len(simulated) == len(random) == COUNT
    for observations in (random, simulated):
        parity = compare(model, policy, graph, observations)
        assert parity.holds, parity
        chosen = model.predict(observations, deterministic=True)[0]
        assert ((policy.decide(observations) != chosen).sum()) <= parity.ties
        assert parity.ties <= 10


def test_the_card_says_where_the_policy_comes_from(trained, metro):
    model, bundle = trained
    scenario, table = metro
    card = FrozenPolicy.load(bundle).card
    check_compatible(card, scenario, table)
    assert card["algorithm"] == type(model).__name__.lower()
    assert card["scenario_sha256"] == scenario_sha256(scenario)
    assert [row["name"] for row in card["observation"]["features"]] == table.names
    assert card["actions"] == [p.name for p in scenario.placements]
    assert card["training"]["command"] == "carbonpilot train metro --seed 1"
    assert card["parity"]["observations"] == COUNT
    assert card["network"]["layers"] == [len(table), 64, 64, len(scenario.placements)]


def test_a_model_that_does_not_fit_or_does_not_agree_leaves_no_bundle(trained, metro, tmp_path, monkeypatch):
    scenario, table = metro
    origin = Origin(scenario, table, "none", [0], 0, "none", {})
    with pytest.raises(InputError, match="maps 9 features to 3 actions"):
        export_model(DQN("MlpPolicy", Noise(), device="cpu"), tmp_path / "out", origin)
    monkeypatch.setattr(export_module, "compare_outputs", lambda *_: Parity(1, 1e-3, 0.0, 0, 0))
    with pytest.raises(CarbonPilotError, match="does not decide as the model does"):
        export_model(trained[0], tmp_path / "out", origin)
    assert list(tmp_path.iterdir()) == []
