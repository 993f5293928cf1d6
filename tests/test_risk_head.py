"""The risk head and its folder: one request as a batch, broken inputs, what is refused."""

import json

import numpy as np
import pytest
from risk_builder import make_risk, random_head, simulated_observations

from carbonpilot.agents.risk.folder import CARD_FILE, HEAD_FILE, read_risk, read_risk_for
from carbonpilot.agents.risk.head import RiskHead
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario


@pytest.fixture(scope="module")
def scenario():
    return load_scenario("metro")


@pytest.fixture(scope="module")
def observations(scenario):
    return simulated_observations(scenario, 300)


@pytest.mark.parametrize("powers", [True, False])
def test_one_request_gets_what_it_gets_in_a_batch(scenario, observations, powers):
    head = RiskHead(random_head(scenario, powers=powers))
    together = head.logits(observations)
    alone = np.stack([head.logits(o) for o in observations])
    assert together.shape == (300, len(scenario.placements))
    assert np.abs(together - alone).max() < 1e-4


def test_the_head_is_the_network_that_the_arrays_say(scenario, observations):
    arrays = {k: v.astype(np.float64) for k, v in random_head(scenario).items()}
    values = (observations - arrays["mean"]) / arrays["std"]
    for i in range(3):
        values = values @ arrays[f"weight_{i}"] + arrays[f"bias_{i}"]
        values = np.maximum(values, 0) if i < 2 else values
    head = RiskHead(random_head(scenario))
    assert np.allclose(head.logits(observations), values, rtol=1e-4, atol=1e-4)


def test_answers_are_not_overwritten_by_the_next_question(scenario, observations):
    head = RiskHead(random_head(scenario))
    first = head.logits(observations[0])
    kept = first.copy()
    head.logits(observations[1])
    assert (first == kept).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_feature_that_is_no_number_makes_every_logit_of_its_row_none(scenario, observations, bad):
    head = RiskHead(random_head(scenario))
    broken = observations[:3].copy()
    broken[1, 4] = bad
    logits = head.logits(broken)
    assert np.isnan(logits[1]).all()
    assert np.isfinite(logits[[0, 2]]).all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(head.logits(broken[1])).all()


def test_a_wrong_shape_is_refused(scenario):
    head = RiskHead(random_head(scenario))
    with pytest.raises(InputError, match=r"expected shape \(\d+,\) or \(B, \d+\), got \(2, 3\)"):
        head.logits(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("bias_1"), "expected arrays mean, std, weight_0"),
        (lambda a: a.update(extra=a["mean"]), "expected arrays mean, std, weight_0"),
        (lambda a: a.update(weight_1=a["weight_1"][:-1]), "do not follow on each other"),
        (lambda a: a.update(bias_0=a["bias_0"].astype(np.float64)), "bias_0 must be finite float32"),
        (lambda a: a.update(mean=a["mean"] * np.nan), "mean must be finite float32"),
        (lambda a: a.update(std=a["std"] * 0), "std must be above 0"),
    ],
)
def test_arrays_that_are_no_head_are_refused(scenario, change, message):
    arrays = random_head(scenario)
    change(arrays)
    with pytest.raises(InputError, match=message):
        RiskHead(arrays)


def test_a_folder_comes_back_as_it_was_written(tmp_path, scenario, observations):
    folder = make_risk(tmp_path / "risk", scenario, {"miss_price_mg": 3.0})
    risk = read_risk_for(folder, scenario)
    assert risk.card.price["miss_price_mg"] == 3.0
    expected = RiskHead(random_head(scenario)).logits(observations)
    loaded = RiskHead.load(folder, table_sha256=build_table(scenario).sha256)
    assert (loaded.logits(observations) == expected).all()


def test_a_damaged_or_foreign_folder_is_refused(tmp_path, scenario):
    folder = make_risk(tmp_path / "risk", scenario)
    with pytest.raises(InputError, match="trained on another observation table"):
        RiskHead.load(folder, table_sha256="0" * 64)
    with pytest.raises(InputError, match="made for scenario 'metro' of family 'metro'"):
        read_risk_for(folder, load_scenario("metro-b4"))
    with pytest.raises(InputError, match="not a risk folder"):
        read_risk(tmp_path)
    content = bytearray((folder / HEAD_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / HEAD_FILE).write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"risk\.npz was changed"):
        read_risk(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "carbonpilot/risk/9"}, "expected schema 'carbonpilot/risk/1', got 'carbonpilot/risk/9'"),
        ({"price": {"miss_prize_mg": 1.0}}, "has no parameter 'miss_prize_mg'. Did you mean 'miss_price_mg'"),
        ({"price": {"miss_price_mg": 1e9}}, "miss_price_mg: must lie in"),
        ({"actions": ["local-b0"]}, "does not have one logit for each"),
        ({"colour": "green"}, "colour"),
    ],
)
def test_a_card_that_says_something_else_is_refused(tmp_path, scenario, change, message):
    folder = make_risk(tmp_path / "risk", scenario)
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | change))
    with pytest.raises(InputError, match=message):
        read_risk(folder)


def test_pickled_objects_are_never_loaded(tmp_path, scenario):
    folder = make_risk(tmp_path / "risk", scenario)
    np.savez(folder / HEAD_FILE, mean=np.array([print], dtype=object))
    card = json.loads((folder / CARD_FILE).read_text())
    import hashlib

    card["files"][HEAD_FILE] = hashlib.sha256((folder / HEAD_FILE).read_bytes()).hexdigest()
    (folder / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(InputError, match="not a plain NumPy archive"):
        read_risk(folder)
