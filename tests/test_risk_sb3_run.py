"""A training over a risk head: the run holds a copy, a resume checks it, the bundle decides as the model."""

import shutil

import numpy as np
import pytest
import yaml
from risk_builder import make_risk, simulated_observations

from carbonpilot.agents.export import export_run
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.agents.sb3_policy import Sb3Policy
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario

ROLLOUT = 256


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def risk(site, tmp_path_factory):
    return make_risk(tmp_path_factory.mktemp("heads") / "risk", load_scenario(site))


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def run(request, lab, site, risk, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    lab.train(site, out, 2 * ROLLOUT, request.param, seed=3, risk=risk)
    return RunDir(out)


def test_the_run_holds_its_own_copy(run, risk):
    mean, std = run.normalizer
    arrays = read_risk(risk).arrays
    assert (mean == arrays["mean"]).all()
    assert (std == arrays["std"]).all()
    assert {file.name for file in (run.path / "risk").iterdir()} == {"risk.npz", "price.json"}
    assert run.risk is not None
    assert run.risk.card == read_risk(risk).card
    policy = Sb3Policy.load(run.path).model.policy
    features = (
        policy.q_net.features_extractor if run.config["algorithm"] == "dqn" else policy.features_extractor
    )
    assert all((features.head_arrays()[name] == array).all() for name, array in arrays.items())


def test_a_run_becomes_a_bundle_that_decides_as_it(run, site, risk, tmp_path):
    policy = FrozenPolicy.load(export_run(run.path, tmp_path / "bundle"))
    observations = simulated_observations(load_scenario(site), 500)
    mask = np.ones((500, 5), dtype=bool)
    assert (
        policy.decide(observations, mask) == Sb3Policy.load(run.path).decide(observations, mask)
    ).mean() > 0.99
    made = policy.card["risk"]["made"]
    assert made["calibration"] == read_risk(risk).card.calibration
    assert policy.card["training"]["steps"] == 2 * ROLLOUT


def test_resuming_goes_on_over_the_same_head_only(lab, site, risk, tmp_path):
    out, scenario = tmp_path / "run", load_scenario(site)
    lab.train(site, out, ROLLOUT, seed=3, risk=risk)
    other = make_risk(tmp_path / "other", scenario, {"budget_gain": 1})
    for wrong in (other, None):
        with pytest.raises(InputError, match=r"risk\.price\.json: the run has '.*', now "):
            lab.train(site, out, 2 * ROLLOUT, seed=3, risk=wrong, resume=True)
    moved = tmp_path / "moved"
    shutil.copytree(risk, moved)
    result, _ = lab.train(site, out, 2 * ROLLOUT, seed=3, risk=moved, resume=True)
    assert result.steps == 2 * ROLLOUT
    shutil.copyfile(other / "price.json", out / "risk" / "price.json")
    with pytest.raises(InputError, match="is not the risk folder that the run was started with"):
        lab.train(site, out, 3 * ROLLOUT, seed=3, risk=risk, resume=True)
    (out / "risk" / "risk.npz").unlink()
    with pytest.raises(InputError, match=r"risk\.npz cannot be read"):
        lab.train(site, out, 3 * ROLLOUT, seed=3, risk=risk, resume=True)


def test_what_does_not_fit_is_refused_before_anything_is_written(lab, site, risk, tmp_path):
    with pytest.raises(InputError, match="is not a risk folder"):
        lab.train(site, tmp_path / "out", ROLLOUT, risk=tmp_path)
    with pytest.raises(InputError, match="expected stack 1"):
        lab.train(site, tmp_path / "out", ROLLOUT, risk=risk, settings={**lab.small_ppo, "stack": 2})
    content = yaml.safe_load(site.read_text())
    content["family"] = "elsewhere"
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="family 'elsewhere'"):
        lab.train(tmp_path / "site.yaml", tmp_path / "out", ROLLOUT, risk=risk)
    assert not (tmp_path / "out").exists()
