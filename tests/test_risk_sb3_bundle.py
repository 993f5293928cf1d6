"""Bundles that hold a risk head: from a risk policy of every algorithm, and from a risk folder alone."""

import json
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from risk_builder import make_risk, simulated_observations
from sb3_contrib import QRDQN, MaskablePPO
from stable_baselines3 import DQN, PPO

from carbonpilot.agents.bundle import CARD_FILE, GRAPH_FILE, WEIGHTS_FILE, read_bundle, seal
from carbonpilot.agents.bundle_writer import add_scores, write_bundle
from carbonpilot.agents.compatibility import check_compatible
from carbonpilot.agents.export import Origin, export_model
from carbonpilot.agents.export_risk import export_risk
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.parity import TOLERANCE, compare, random_observations, run_onnx
from carbonpilot.agents.policy import Policy
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.risk.head import RiskHead
from carbonpilot.agents.risk.price import Price
from carbonpilot.agents.risk_parts import risk_parts
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.envs.errors import BundleError, InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario

COUNT = 10_000
PRICE = {"accuracy_price_mg": 0.7, "miss_price_mg": 3, "shield_misses": 5}
LEARNED = {
    "ppo": (PPO, {}),
    "ppo-relu-deep": (PPO, {"activation": "relu", "hidden": [32, 16, 8]}),
    "maskable-ppo": (MaskablePPO, {"hidden": [16]}),
    "dqn": (DQN, {"dueling": False}),
    "dqn-dueling": (DQN, {"dueling": True}),
    "qrdqn": (QRDQN, {"quantiles": 10}),
}
KINDS = ("learned-risk", *LEARNED)


class Spaces(gymnasium.Env):
    def __init__(self, scenario):
        table = build_table(scenario)
        self.observation_space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(scenario.placements))


def shaken(model, seed=0):
    """The model with every learned weight moved, so that all of them matter."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def risk_model(kind, scenario, risk):
    algorithm, changes = LEARNED[kind]
    algo = "ppo" if kind.startswith("ppo") else kind.removesuffix("-dueling")
    config, _ = load_training_config(algo, scenario.name, scenario.family, None, changes)
    parts = risk_parts(algo, config, scenario, risk)
    model = algorithm(parts.policy, Spaces(scenario), policy_kwargs=parts.policy_kwargs, device="cpu", seed=4)
    return shaken(model)


@pytest.fixture(scope="module")
def metro():
    return load_scenario("metro")


@pytest.fixture(scope="module")
def simulated(metro):
    return simulated_observations(metro, COUNT, batch=100)


@pytest.fixture(scope="module")
def folders(metro, tmp_path_factory):
    """Two risk folders, the second with a normaliser whose division cannot be folded."""
    base = tmp_path_factory.mktemp("risk")
    return make_risk(base / "folded", metro, PRICE), make_risk(base / "divided", metro, PRICE, powers=False)


@pytest.fixture(scope="module", params=[*KINDS, "learned-risk-divided", "ppo-divided"])
def bundle(request, metro, folders, tmp_path_factory):
    """Name, model (None: the price alone), risk and bundle."""
    kind = request.param.removesuffix("-divided")
    folder = folders[request.param.endswith("-divided")]
    out = tmp_path_factory.mktemp("bundles") / request.param
    risk = read_risk(folder)
    if kind == "learned-risk":
        return kind, None, risk, export_risk(folder, out, metro)
    model = risk_model(kind, metro, risk)
    origin = Origin(metro, build_table(metro), "carbonpilot train", [1], 640, "abc", {}, risk={"seconds": 1})
    return kind, model, risk, export_model(model, out, origin)


def test_torch_numpy_and_onnx_agree(bundle, metro, simulated):
    _, model, risk, folder = bundle
    policy = FrozenPolicy.load(folder)
    assert isinstance(policy, Policy)
    graph, table = (folder / GRAPH_FILE).read_bytes(), build_table(metro)
    space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
    anywhere = random_observations(space, risk.arrays["mean"], risk.arrays["std"], COUNT, seed=11)
    assert len(simulated) == len(anywhere) == COUNT
    for observations in (simulated, anywhere):
        if model is None:
            outputs, onnx = policy.logits(observations), run_onnx(graph, observations)
            assert np.abs(outputs - onnx).max() <= TOLERANCE * max(1, np.abs(onnx).max())
        else:
            parity = compare(model, policy, graph, observations)
            assert parity.holds, parity
            assert parity.ties <= 10
        some = observations[::20]
        one, batch = np.array([policy.logits(row) for row in some]), policy.logits(some)
        scale = np.maximum(
            np.maximum(1, policy.largest_inside(some)), np.abs(batch).max(axis=1, keepdims=True)
        )
        assert (np.abs(one - batch) / scale).max() <= TOLERANCE
        decided = policy.decide(some)
        assert decided.dtype == np.int64
        singles = [policy.decide(row) for row in some]
        assert all(type(action) is int for action in singles)
        assert (decided == singles).mean() > 0.998  # a tie may fall either way
        assert len(set(singles)) > 1
    assert card_of(folder)["parity"]["observations"] == COUNT


def test_the_price_alone_decides_as_its_room_does(folders, metro, simulated, tmp_path):
    for i, folder in enumerate(folders):
        risk, policy = read_risk(folder), FrozenPolicy.load(export_risk(folder, tmp_path / str(i), metro))
        scores = Price(metro, risk.card.price).scores(simulated, RiskHead(risk.arrays).logits(simulated))
        best_two = np.sort(scores, axis=1)[:, :2]
        clear = best_two[:, 1] - best_two[:, 0] > 1e-4 * np.abs(scores).max(axis=1)
        assert clear.mean() > 0.99
        assert (policy.decide(simulated) == scores.argmin(axis=1))[clear].all()


def test_masks_are_obeyed(bundle, simulated):
    policy, rng = FrozenPolicy.load(bundle[3]), np.random.default_rng(2)
    observations = simulated[::50]
    masks = rng.random((len(observations), 5)) < 0.5
    masks[:, 0] = True
    outputs = np.where(masks, policy.logits(observations), -np.inf)
    assert (policy.decide(observations, masks) == outputs.argmax(axis=1)).all()
    singles = [policy.decide(o, m) for o, m in zip(observations, masks, strict=True)]
    assert masks[np.arange(len(singles)), singles].all()
    assert (outputs.argmax(axis=1) == singles).mean() > 0.99
    nothing = np.zeros(5, dtype=bool)
    with pytest.raises(InputError, match="allows no placement at all"):
        policy.decide(observations[0], nothing)
    with pytest.raises(InputError, match=r"expected shape \(5,\), got \(4,\)"):
        policy.decide(observations[0], np.ones(4, dtype=bool))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused_in_every_feature(bundle, metro, simulated, value):
    policy, names = FrozenPolicy.load(bundle[3]), build_table(metro).names
    expected = policy.decide(simulated[7])
    for feature, name in enumerate(names):
        broken = simulated[5:8].copy()
        broken[1, feature] = value
        message = rf"expected finite features, got {name} = {value}"
        for ask in (policy.decide, policy.logits):
            with pytest.raises(InputError, match=message):
                ask(broken[1])  # warnings are errors in these tests ...
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # ... and are not in use
                with pytest.raises(InputError, match=message):
                    ask(broken[1])
            with pytest.raises(InputError, match=r"row 1.*" + message):
                ask(broken)
        assert policy.decide(broken[2]) == expected, "what came before must not matter"


def test_outputs_too_large_for_single_precision_are_refused(bundle, simulated):
    policy = FrozenPolicy.load(bundle[3])
    huge = np.full_like(simulated[0], np.float32(3e38))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for ask in (policy.decide, policy.logits):
            with pytest.raises(InputError, match="too large for float32"):
                ask(huge)
            with pytest.raises(InputError, match="too large for float32"):
                ask(huge[None])


def card_of(folder):
    return read_bundle(folder)[0]


def test_the_card_says_it_all_and_the_bundle_is_small(bundle, metro):
    kind, _, risk, folder = bundle
    card, arrays = read_bundle(folder)
    check_compatible(card, metro, build_table(metro))
    assert card["schema"] == "carbonpilot/bundle/2"
    assert card["risk"]["layers"] == [len(build_table(metro)), 16, 16, 5]
    assert [p["carbon"] for p in card["risk"]["price"]["placements"]] == [
        f"{a}_carbon_mg" for a in card["actions"]
    ]
    assert (card["network"] is None) == (kind == "learned-risk")
    assert (arrays["risk_weight_0"] == risk.arrays["weight_0"]).all()
    if kind == "learned-risk":
        assert card["algorithm"] == "learned-risk"
        assert card["output"] == "preferences"
        assert card["risk"]["made"]["calibration"] == risk.card.calibration
        assert card["risk"]["made"]["price"] == risk.card.price
        assert card["seed"] == 3
    else:
        assert card["risk"]["made"] == {"seconds": 1}
    add_scores(folder, {"metro": {"slo_miss_rate": {"mean": 0.03, "ci95": [0.02, 0.04]}}})
    assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000
    assert sorted(file.name for file in folder.iterdir()) == [CARD_FILE, WEIGHTS_FILE, GRAPH_FILE]


def test_a_bundle_of_the_flagships_size_is_small(metro, tmp_path):
    folder = make_risk(tmp_path / "risk", metro, hidden=(64, 64))
    model = risk_model("ppo", metro, read_risk(folder))
    origin = Origin(metro, build_table(metro), "carbonpilot train", [1], 640, "abc", {})
    out = export_model(model, tmp_path / "out", origin)
    assert card_of(out)["network"]["layers"] == [len(build_table(metro)), 64, 64, 5]
    assert (
        sum(file.stat().st_size for file in out.iterdir()) < 250_000
    )  # the scores of a benchmark come on top


@pytest.fixture(scope="module")
def parts(metro, folders, tmp_path_factory):
    """Card, arrays and graph of a whole bundle with head and network, to be spoiled."""
    model = risk_model("ppo", metro, read_risk(folders[0]))
    origin = Origin(metro, build_table(metro), "carbonpilot train", [1], 640, "abc", {})
    out = export_model(model, tmp_path_factory.mktemp("whole") / "bundle", origin)
    return *read_bundle(out), (out / GRAPH_FILE).read_bytes()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c, a: c["risk"]["price"].pop("tail_s"), "expected the numbers"),
        (lambda c, a: c["risk"]["price"].update(unit_mg=0), "unit_mg must be above 0"),
        (lambda c, a: c["risk"]["price"]["placements"].pop(), "the price is not for the placements"),
        (
            lambda c, a: c["risk"]["price"]["placements"][1].update(load="moon_load"),
            "price reads 'moon_load'",
        ),
        (lambda c, a: c["risk"].pop("price"), "does not describe the price"),
        (lambda c, a: c["risk"].update(layers=[56, 5]), "risk head: layers .* do not lead|lack a hidden one"),
        (lambda c, a: c["risk"].update(activation="tanh"), "risk head: activation 'tanh' is unknown"),
        (lambda c, a: c["risk"].update(layers="none"), "risk head: the card does not describe its layers"),
        (lambda c, a: a.pop("risk_bias_0"), "expected arrays"),
        (
            lambda c, a: a.update(risk_bias_0=a["risk_bias_0"] * np.float32(np.nan)),
            "risk_bias_0 must be finite",
        ),
        (lambda c, a: a.update(weight_0=a["weight_0"][:-1]), r"weight_0 must be finite float32 \(66, 64\)"),
        (lambda c, a: c.update(network=None), "expected arrays"),
        (lambda c, a: c.update(network=None, risk=None), "neither a network nor a risk head"),
        (lambda c, a: c.update(risk=None), "expected arrays"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_neither_written_nor_read(parts, spoil, message, tmp_path):
    card, arrays, graph = json.loads(json.dumps(parts[0])), dict(parts[1]), parts[2]
    whole = write_bundle(tmp_path / "whole", card, arrays, graph)
    spoil(card, arrays)
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "wrong", card, arrays, graph)
    assert not (tmp_path / "wrong").exists()
    if arrays.keys() == parts[1].keys() and all(
        arrays[k] is parts[1][k] for k in arrays
    ):  # only the card is wrong
        (whole / CARD_FILE).write_bytes(seal({**card, "files": card_of(whole)["files"]}))
        with pytest.raises(BundleError, match=message):
            FrozenPolicy.load(whole)


def test_a_risk_head_is_missing_only_from_the_first_schema(parts, tmp_path):
    card, arrays, graph = parts
    folder = write_bundle(tmp_path / "bundle", card, arrays, graph)
    whole = card_of(folder)
    for wrong in ({k: v for k, v in whole.items() if k != "risk"}, {**whole, "risk": 3}):
        (folder / CARD_FILE).write_bytes(seal(wrong))
        with pytest.raises(BundleError, match="'risk' is missing or neither a dict nor null"):
            FrozenPolicy.load(folder)


FRESH = """
import json, sys
from carbonpilot.agents.frozen import FrozenPolicy
import numpy
policy = FrozenPolicy.load(sys.argv[1])
size = len(policy.card["observation"]["features"])
action = policy.decide(numpy.zeros(size, dtype=numpy.float32), numpy.ones(5, dtype=bool))
heavy = ["torch", "gymnasium", "stable_baselines3", "pydantic", "scipy", "onnx", "onnxruntime", "yaml"]
print(json.dumps([action, [name for name in heavy if name in sys.modules]]))
"""


def test_a_fresh_process_needs_numpy_alone(parts, tmp_path):
    folder = write_bundle(tmp_path / "bundle", *parts)
    run = [sys.executable, "-W", "error", "-c", FRESH, str(folder)]
    action, heavy = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert heavy == []
    policy = FrozenPolicy.load(folder)
    assert action == policy.decide(np.zeros(len(policy.card["observation"]["features"]), np.float32))


def test_what_a_risk_folder_is_not_made_for_is_refused(metro, folders, tmp_path):
    with pytest.raises(InputError, match="family"):
        export_risk(folders[0], tmp_path / "out", load_scenario("khan-mixed"))
    card = json.loads((folders[0] / "price.json").read_text())
    old = tmp_path / "old"
    old.mkdir()
    (old / "risk.npz").write_bytes((folders[0] / "risk.npz").read_bytes())
    (old / "price.json").write_text(json.dumps({**card, "scenario_sha256": "feed" * 16}))
    with pytest.raises(InputError, match=r"as it was then \(feedfeedfeed\).*--scenario FILE"):
        export_risk(old, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_risk(old, tmp_path / "out", metro).is_dir()
