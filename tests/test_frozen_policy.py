import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.policy import Policy
from carbonpilot.envs.errors import InputError


def network(sizes, activation, seed=0, powers=True):
    """A policy and its arrays; the division is folded if the normaliser's std are powers of two."""
    rng = np.random.default_rng(seed)
    arrays = {
        "mean": rng.normal(0, 2, sizes[0]).astype(np.float32),
        "std": (2.0 ** rng.integers(-6, 3, sizes[0]) * (1 if powers else 1.1)).astype(np.float32),
    }
    for i, (n, m) in enumerate(pairwise(sizes)):
        arrays[f"weight_{i}"] = (rng.standard_normal((n, m)) / np.sqrt(n)).astype(np.float32)
        arrays[f"bias_{i}"] = rng.standard_normal(m).astype(np.float32)
    features = [{"name": f"feature_{i}_ms"} for i in range(sizes[0])]
    card = {"network": {"layers": sizes, "activation": activation}, "observation": {"features": features}}
    return FrozenPolicy("test", card, arrays), arrays


def plain_forward(arrays, activation, observations):
    """The textbook network in float64."""
    h = (observations.astype(np.float64) - arrays["mean"]) / arrays["std"]
    count = sum(name.startswith("weight_") for name in arrays)
    for i in range(count):
        h = h @ arrays[f"weight_{i}"].astype(np.float64) + arrays[f"bias_{i}"]
        if i < count - 1:
            h = np.tanh(h) if activation == "tanh" else np.maximum(h, 0)
    return h


def observations_near(arrays, count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(arrays["mean"], 2 * arrays["std"], (count, len(arrays["mean"]))).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    activation=st.sampled_from(["relu", "tanh"]),
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(0, 9),
    powers=st.booleans(),
)
def test_equals_a_plain_forward_pass(sizes, activation, seed, batch, powers):
    policy, arrays = network(sizes, activation, seed, powers)
    observations = observations_near(arrays, batch, seed)
    expected = plain_forward(arrays, activation, observations)
    tolerance = 1e-5 * np.maximum(1, np.abs(expected))
    assert (np.abs(policy.logits(observations) - expected) <= tolerance).all()
    for row, observation in enumerate(observations):
        assert (np.abs(policy.logits(observation) - expected[row]) <= tolerance[row]).all()
        assert expected[row, policy.decide(observation)] >= expected[row].max() - 2 * tolerance[row].max()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_never_chooses_what_the_mask_forbids(data):
    placements = data.draw(st.integers(1, 6))
    policy, arrays = network([7, 8, placements], "tanh", seed=placements)
    observations = observations_near(arrays, 5)
    rows = st.lists(st.booleans(), min_size=placements, max_size=placements).filter(any)
    masks = np.array(data.draw(st.lists(rows, min_size=5, max_size=5)))
    outputs = np.where(masks, policy.logits(observations), -np.inf)
    chosen = policy.decide(observations, masks)
    assert chosen.dtype == np.int64
    assert (chosen == outputs.argmax(axis=1)).all()
    singles = [policy.decide(o, m) for o, m in zip(observations, masks, strict=True)]
    assert all(type(action) is int for action in singles)
    assert masks[np.arange(5), singles].all()


def test_a_mask_changed_in_place_is_seen():
    policy, arrays = network([7, 8, 3], "relu")
    observation = observations_near(arrays, 1)[0]
    mask = np.ones(3, dtype=bool)
    first = policy.decide(observation, mask)
    assert first == policy.decide(observation) == policy.logits(observation).argmax()
    mask[first] = False
    assert policy.decide(observation, mask) != first


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("layers", [[], [16], [16, 16]])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_to_decide_on_what_is_not_a_number(activation, layers, value):
    """Each feature alone, also where its weights are zero and saturation or ReLU would hide it."""
    policy, arrays = network([4, *layers, 3], activation)
    for feature in range(4):
        observations = observations_near(arrays, 3)
        observations[1, feature] = value
        message = rf"expected finite features, got feature_{feature}_ms = {value}"
        for ask in (policy.decide, policy.logits):
            with pytest.raises(InputError, match=message):
                ask(observations[1])  # warnings are errors in these tests ...
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # ... and are not in use
                with pytest.raises(InputError, match=message):
                    ask(observations[1])
            with pytest.raises(InputError, match=r"row 1.*" + message):
                ask(observations)
        assert policy.decide(observations[0]) == policy.logits(observations[0]).argmax()


def test_a_hidden_infinity_is_found_where_relu_cuts_it_off():
    policy, arrays = network([2, 4, 2], "relu")
    arrays["weight_0"][:] = -1  # plus infinity becomes 0 in every hidden unit
    policy = FrozenPolicy("test", policy.card, arrays)
    with pytest.raises(InputError, match="feature_0_ms = inf"):
        policy.decide(np.array([np.inf, 0], dtype=np.float32))


def test_wrong_shapes_and_empty_masks_are_named():
    policy, _ = network([4, 8, 3], "relu")
    with pytest.raises(InputError, match=r"expected shape \(4,\) or \(B, 4\), got \(5,\)"):
        policy.decide(np.zeros(5, np.float32))
    with pytest.raises(InputError, match=r"got \(2, 1\)"):
        policy.decide(np.zeros((2, 1), np.float32))
    with pytest.raises(InputError, match=r"Mask: expected shape \(3,\), got \(2,\)"):
        policy.decide(np.zeros(4, np.float32), np.array([True, False]))
    with pytest.raises(InputError, match="allows no placement"):
        policy.decide(np.zeros(4, np.float32), np.zeros(3, dtype=bool))


def test_is_a_policy_and_its_results_are_the_callers_own():
    policy, arrays = network([4, 8, 3], "tanh")
    assert isinstance(policy, Policy)
    policy.reset(2)
    observations = observations_near(arrays, 2)
    first, kept = policy.logits(observations), policy.logits(observations[0])
    copies = first.copy(), kept.copy()
    policy.logits(observations * 2), policy.logits(observations[0] * 2)
    assert (first == copies[0]).all()
    assert (kept == copies[1]).all()
