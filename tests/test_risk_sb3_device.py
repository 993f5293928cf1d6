"""A bundle with a risk head on the device: safe under the shield, refused clearly when it is too new."""

import sys

import numpy as np
import pytest
from risk_builder import make_risk, simulated_observations

from carbonpilot import cli
from carbonpilot.agents.bundle import CARD_FILE, read_card, seal
from carbonpilot.agents.export_risk import export_risk
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.policy_registry import contestant
from carbonpilot.envs.errors import BundleError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.real.runtime.checks import open_policy
from carbonpilot.real.shield import Shield


@pytest.fixture(scope="module")
def metro():
    return load_scenario("metro")


@pytest.fixture(scope="module")
def bundle(metro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("risk")
    return export_risk(make_risk(folder / "risk", metro), folder / "bundle", metro)


def test_a_broken_observation_goes_to_the_device_and_is_counted(metro, bundle):
    policy, name, digest = open_policy(bundle, None, metro, build_table(metro))
    assert (name, len(digest)) == ("bundle", 64)
    shield = Shield(policy, metro)
    observations = simulated_observations(metro, 60)
    rng = np.random.default_rng(0)
    for n, observation in enumerate(observations):
        broken = n % 3 == 0
        if broken:
            observation[rng.integers(len(observation))] = [np.nan, np.inf, -np.inf][n % 9 // 3]
        decision = shield.decide(observation, 100.0 * n)
        assert 0 <= decision.placement < len(metro.placements)
        assert (decision.reason == "bad-observation") == broken
        if broken:
            assert decision.placement == 0
        shield.record(decision.placement, 50.0, None, 100.0 * n + 50, decision)
    assert shield.states(6000.0)["reasons"]["bad-observation"] == 20
    assert shield.states(6000.0)["policy_error"] is None


def test_a_policy_that_refuses_is_counted_and_said(metro, bundle):
    """What the bounds let through and the policy does not: the frame still gets its placement."""
    policy = FrozenPolicy.load(bundle)
    policy._decide_one = lambda observation: 1 / 0
    shield = Shield(policy, metro)
    decision = shield.decide(simulated_observations(metro, 1)[0], 0.0)
    assert (decision.placement, decision.reason) == (0, "policy-error")
    assert "division by zero" in shield.states(0.0)["policy_error"]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the program in this process: exit code and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["carbonpilot", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), "".join(capsys.readouterr())

    return run


def test_a_bundle_of_a_newer_schema_is_refused_by_every_tool(metro, bundle, tmp_path, call):
    newer = tmp_path / "newer"
    newer.mkdir()
    for file in bundle.iterdir():
        (newer / file.name).write_bytes(file.read_bytes())
    (newer / CARD_FILE).write_bytes(seal({**read_card(newer), "schema": "carbonpilot/bundle/9"}))
    said = r"schema is 'carbonpilot/bundle/9'.*written by a newer version: update carbonpilot"
    with pytest.raises(BundleError, match=said):
        open_policy(newer, None, metro, build_table(metro))
    with pytest.raises(BundleError, match=said):
        contestant(str(newer), metro)
    code, said = call("benchmark", "metro", "--policy", newer, "--episodes", 2)
    assert code == 2
    assert "bundle/9" in said
    assert "Traceback" not in said


def test_a_risk_folder_is_exported_from_the_command_line(bundle, tmp_path, call):
    code, said = call("export", bundle.parent / "risk", "--out", tmp_path / "one", "--scenario", "metro")
    assert code == 0, said
    assert FrozenPolicy.load(tmp_path / "one").card["algorithm"] == "learned-risk"
    code, said = call("export", tmp_path, "--out", tmp_path / "two", "--scenario", "metro")
    assert code == 2
    assert "--scenario is for risk folders" in said
    assert not (tmp_path / "two").exists()


def test_the_bundle_plays_in_a_benchmark_with_and_without_the_shield(metro, bundle):
    observations = simulated_observations(metro, 40)
    mask = np.ones((40, len(metro.placements)), dtype=bool)
    for name in (str(bundle), f"{bundle}+shield"):
        entry = contestant(name, metro)
        assert entry.kind == "learned"
        entry.policy.reset(40)
        assert entry.policy.decide(observations, mask).shape == (40,)
