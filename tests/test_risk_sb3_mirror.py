"""Head and price in torch, in NumPy and for one request against the room that defines them; the policies' start."""

import gymnasium
import numpy as np
import pytest
import torch
from risk_builder import make_risk, random_head, simulated_observations
from sb3_contrib import QRDQN, MaskablePPO
from stable_baselines3 import DQN, PPO

from carbonpilot.agents.frozen import freeze
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.risk.head import RiskHead
from carbonpilot.agents.risk.parameters import EVERY
from carbonpilot.agents.risk.price import Price
from carbonpilot.agents.risk_extractor import RiskExtractor
from carbonpilot.agents.risk_parts import risk_parts
from carbonpilot.agents.risk_record import price_record, risk_part
from carbonpilot.agents.risk_terms import Terms, read_record, scores_mg
from carbonpilot.agents.sb3_weights import sb3_outputs
from carbonpilot.agents.training_config import load_training_config
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario

SCENARIOS = ("metro", "khan-mixed", "metro-b4")
# Away from the defaults, with every part of the formula in it.
PRICES = (
    {},
    {"accuracy_price_mg": 0.7, "miss_price_span": 50, "carbon_share_at_zero": 0.1, "shield_misses": 3},
    {"budget_gain": 20, "miss_price_mg": 90, "heat_ramp": 0.02, "hot_price_mg": 2, "radio_share": 1},
    {
        "heat_price_mg": 0.7,
        "hot_price_mg": 0.2,
        "heat_price_locals": 4,
        "hot_price_locals": 3,
        "heat_reserve": 0.3,
    },
)


class Spaces(gymnasium.Env):
    def __init__(self, scenario):
        table = build_table(scenario)
        self.observation_space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(scenario.placements))


@pytest.fixture(scope="module", params=SCENARIOS)
def site(request):
    """A scenario and observations of it: of episodes, of every count of misses, with any wishes, and at random."""
    scenario = load_scenario(request.param)
    table, rng = build_table(scenario), np.random.default_rng(1)
    seen = simulated_observations(scenario, 1500)
    misses = seen[:500].copy()
    allowed = max(1.0, (1 - scenario.slo.quantile) * scenario.episode.requests)
    misses[:, table.index["slo_budget_spent"]] = np.arange(500) % (1.2 * allowed // 1) / allowed
    for name in ("wish_carbon", "wish_latency", "wish_accuracy", "device_throttled"):
        misses[250:, table.index[name]] = rng.integers(0, 3, 250) / 2
    anywhere = rng.uniform(table.low, table.high, (500, len(table))).astype(np.float32)
    return scenario, np.concatenate([seen, misses, anywhere]).astype(np.float32)


def extractor_of(scenario, head, parameters):
    record = price_record(scenario, parameters, head["mean"])
    table = build_table(scenario)
    space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
    return RiskExtractor(space, head, record.as_json(), table.records())


@pytest.mark.parametrize("parameters", PRICES)
@pytest.mark.parametrize("powers", [True, False])
def test_torch_equals_numpy(site, parameters, powers):
    scenario, observations = site
    head = random_head(scenario, powers=powers)
    extractor = extractor_of(scenario, head, parameters)
    rows = torch.from_numpy(observations)
    logits = RiskHead(head).logits(observations)
    assert np.abs(extractor.logits(rows).numpy() - logits).max() <= 1e-5 * max(1, np.abs(logits).max())
    price = Price(scenario, parameters)
    expected, got = price.scores(observations, logits), extractor.scores_mg(rows).numpy()
    # A score is a sum; where the price of a miss is large, its rounding is as well.
    terms = Terms(extractor.record, build_table(scenario).records())
    found = (observations @ terms.matrix + terms.constant).astype(np.float32)
    miss_mg = scores_mg(np, found, logits, extractor.record)[2]
    scale = np.maximum(np.maximum(1, miss_mg), np.abs(expected).max(axis=1, keepdims=True))
    assert (np.abs(got - expected) / scale).max() <= 1e-5
    few = price.shielded(observations)
    assert few.any()
    assert not few.all()
    features = extractor(rows).numpy()
    relative_scores = features[:, -len(scenario.placements) :]
    apart = np.ptp(expected, axis=1) > 1e-4 * scale[:, 0]
    assert (relative_scores.argmin(axis=1) == expected.argmin(axis=1))[apart].mean() > 0.999
    assert (relative_scores[:, 0] == 0).all()
    assert np.abs(features[:, : len(head["mean"])] - (observations - head["mean"]) / head["std"]).max() == 0
    assert list(extractor.parameters()) == []


def frozen(scenario, head, parameters):
    """The price alone as a frozen policy, without a bundle around it."""
    record = price_record(scenario, parameters, head["mean"])
    card = {
        "network": None,
        "risk": risk_part(head, record),
        "observation": {"features": build_table(scenario).records()},
    }
    arrays = {k if k in ("mean", "std") else f"risk_{k}": values for k, values in head.items()}
    return freeze("price", card, arrays)


@pytest.mark.parametrize("hidden", [(16,), (16, 16), (8, 8, 8)])
@pytest.mark.parametrize("powers", [True, False])
def test_one_request_equals_a_batch_and_torch(site, hidden, powers):
    scenario, observations = site
    head = random_head(scenario, hidden, powers=powers)
    for parameters in PRICES:
        policy, extractor = frozen(scenario, head, parameters), extractor_of(scenario, head, parameters)
        batch = policy.logits(observations)
        mirrored = -extractor(torch.from_numpy(observations))[:, -len(scenario.placements) :].numpy()
        # Anywhere in the table's bounds a random head's logits are in the hundreds, and so is their rounding.
        scale = np.maximum(1, policy.largest_inside(observations))
        assert (np.abs(batch - mirrored)[:1500] / np.maximum(1, np.abs(batch[:1500]))).max() <= 1e-5
        assert (np.abs(batch - mirrored) / scale).max() <= 1e-5
        one = np.array([policy.logits(row) for row in observations])
        assert (np.abs(one - batch) / scale).max() <= 1e-5
        assert ([policy.decide(row) for row in observations] == batch.argmax(axis=1)).mean() > 0.998


def test_an_exponential_beyond_every_double_is_no_error(site):
    """What comes out is what single precision gives, which stops growing before."""
    scenario, observations = site
    head = random_head(scenario)
    for name in ("weight_2", "bias_2"):
        head[name] = head[name] * np.float32(1e4)
    for parameters in PRICES:
        policy = frozen(scenario, head, parameters)
        batch = policy.logits(observations)
        assert np.abs(RiskHead(head).logits(observations)).max() > 1e4
        one = np.array([policy.logits(row) for row in observations])
        # Logits of 1e4 are right to 1e-3 in single precision, and so is what is exponentiated, to some times that.
        assert (np.abs(one - batch) / np.maximum(1, np.abs(batch))).max() <= 1e-2


def test_whole_numbers_of_misses_are_compared_as_such():
    """With exactly as many misses left as the shield asks for, risk is still priced; with one less it is not."""
    for quantile, requests in ((0.95, 1000), (0.95, 300), (0.9, 70), (0.99, 700)):
        scenario = load_scenario("metro").model_copy(deep=True)
        scenario = scenario.model_copy(
            update={
                "slo": scenario.slo.model_copy(update={"quantile": quantile}),
                "episode": scenario.episode.model_copy(update={"requests": requests}),
            }
        )
        head, table = random_head(load_scenario("metro")), build_table(scenario)
        allowed = round((1 - quantile) * requests)
        least = min(20, allowed // 2)
        price = Price(scenario, {"shield_misses": least})
        extractor = extractor_of(scenario, head, {"shield_misses": least})
        rows = np.tile(head["mean"], (allowed + 1, 1))
        rows[:, table.index["slo_budget_spent"]] = np.arange(allowed + 1) / np.float32(allowed)
        few = [allowed - misses < least for misses in range(allowed + 1)]
        assert price.shielded(rows).tolist() == few
        logits = RiskHead(head).logits(rows)
        # Two libraries may round the products of a matrix otherwise; scores in mg are far from any logit.
        as_logits = np.isclose(
            extractor.scores_mg(torch.from_numpy(rows)).numpy(), logits, rtol=1e-5, atol=1e-6
        )
        assert as_logits.all(axis=1).tolist() == few
        ones = [[*price.scores_one(row, own)] == own.tolist() for row, own in zip(rows, logits, strict=True)]
        assert ones == few


ALGORITHMS = {
    "ppo": (PPO, {}),
    "maskable-ppo": (MaskablePPO, {}),
    "dqn": (DQN, {"dueling": False}),
    "dqn-dueling": (DQN, {"dueling": True}),
    "qrdqn": (QRDQN, {}),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_before_any_learning_the_policy_is_the_price(name, tmp_path):
    scenario = load_scenario("metro")
    risk = read_risk(make_risk(tmp_path / "risk", scenario, PRICES[1]))
    kind, changes = ALGORITHMS[name]
    algo = name.removesuffix("-dueling")
    config, _ = load_training_config(algo, scenario.name, scenario.family, None, changes)
    parts = risk_parts(algo, config, scenario, risk)
    model = kind(parts.policy, Spaces(scenario), policy_kwargs=parts.policy_kwargs, device="cpu", seed=4)
    observations = simulated_observations(scenario, 2000)
    scores = Price(scenario, risk.card.price).scores(observations, RiskHead(risk.arrays).logits(observations))
    outputs = sb3_outputs(model, observations)
    best_two = np.sort(scores, axis=1)[:, :2]
    clear = best_two[:, 1] - best_two[:, 0] > 1e-5 * np.abs(scores).max(axis=1)
    assert clear.mean() > 0.99
    assert (outputs.argmax(axis=1) == scores.argmin(axis=1))[clear].all()
    chosen = model.predict(observations[:200], deterministic=True)[0]
    assert (chosen == outputs[:200].argmax(axis=1)).all()
    head_parameters = {n for n, _ in model.policy.named_parameters() if "features_extractor" in n}
    assert head_parameters == set()
    path = tmp_path / "model"
    model.save(path)
    again = kind.load(path, device="cpu")
    assert (sb3_outputs(again, observations[:100]) == outputs[:100]).all()


@pytest.mark.parametrize("change", [{"algo": "recurrent-ppo"}, {"stack": 4}])
def test_a_policy_with_a_memory_cannot_lie_over_a_head(change, tmp_path):
    scenario = load_scenario("metro")
    risk = read_risk(make_risk(tmp_path / "risk", scenario))
    algo = change.pop("algo", "ppo")
    config, _ = load_training_config(algo, scenario.name, scenario.family, None, change)
    with pytest.raises(InputError, match=f"expected stack 1 .* got stack {config.stack} and {algo}"):
        risk_parts(algo, config, scenario, risk)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_gain": None}, "budget_gain must be a finite number"),
        ({"budget_gain": float("nan")}, "budget_gain must be a finite number, got nan"),
        ({"warm_width": 0}, "warm_width must be above 0"),
        ({"surplus": 1}, "expected the numbers"),
        ({"placements": 3}, "a list of 'placements'"),
        (
            {"placements": [{"carbon": "x", "load": None, "remote": 1}]},
            r"placements\.0\.remote is missing or",
        ),
        (
            {"placements": [{"carbon": "x", "load": None, "remote": True}]},
            r"placements\.0: expected the numbers",
        ),
    ],
)
def test_a_record_that_is_no_price_is_refused(change, message):
    whole = price_record(load_scenario("metro"), None, np.full(200, 0.5, np.float32)).as_json()
    assert read_record(whole).as_json() == whole
    with pytest.raises(ValueError, match=message):
        read_record({**whole, **change})


def test_a_price_of_another_table_is_refused():
    record = price_record(load_scenario("metro"), None, np.full(200, 0.5, np.float32))
    with pytest.raises(ValueError, match="the price reads 'local-b0_carbon_mg'"):
        Terms(record, [{"name": "rtt_ms", "scale": 1.0}])


def test_parameters_cover_every_part_of_the_price():
    assert {name for price in PRICES for name in price} <= {t.name for t in EVERY}
