"""Agents and the dial: trained at one position or at all, refused where they have never been, shown on the device."""

import asyncio
import json

import numpy as np
import pytest
from runtime_fixture import Lab, options, quick_site
from typer.testing import CliRunner

from carbonpilot.agents.dial_knowledge import recorded_wishes, wishes_record
from carbonpilot.agents.export import export_run
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.policy_registry import contestant
from carbonpilot.agents.run_dir import RunDir
from carbonpilot.cli import app
from carbonpilot.envs.dial import parse_wish, scenario_at
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256
from carbonpilot.envs.simulator import Simulator
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.log_records import Header, read_log
from carbonpilot.real.runtime.checked import check
from carbonpilot.real.site_file import load_site

STEPS = 512


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def runs(lab, site, tmp_path_factory):
    """Three small runs: at the site's own position, at green, and all over the dial."""
    folder = tmp_path_factory.mktemp("runs")
    wishes = {"own": None, "green": "green", "sampled": "sampled"}
    return {
        name: lab.train(site, folder / name, STEPS, seed=1, wish=wish)[0].run_dir
        for name, wish in wishes.items()
    }


@pytest.fixture(scope="module")
def bundles(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {name: export_run(run, folder / name) for name, run in runs.items()}


def test_a_run_records_what_it_was_trained_for(runs):
    own, green, sampled = (RunDir(runs[name]).scenario for name in ("own", "green", "sampled"))
    assert own.reward.slo_miss == 8.0
    assert green.wishes == parse_wish("green")
    assert green.reward == scenario_at(own, "green").reward
    assert green.reward.slo_miss == 2.0
    assert sampled.wishes.sampled is not None
    assert sampled.reward == own.reward  # it holds at the site's own position


def test_an_agent_trained_all_over_the_dial_has_seen_it(runs):
    """Its normaliser was measured on drawn wishes: elsewhere it would blow them up."""
    run = RunDir(runs["sampled"])
    index = build_table(run.scenario).index
    columns = [index[f"wish_{name}"] for name in ("carbon", "latency", "accuracy")]
    mean, std = run.normalizer
    assert (std[columns] >= 0.25).all()
    assert RunDir(runs["own"]).normalizer[1][columns] == pytest.approx(2.0**-6)
    assert (mean[columns] > 0.2).all()


@pytest.mark.parametrize("form", ["run", "bundle"])
def test_who_may_play_where(form, runs, bundles, site):
    folders = runs if form == "run" else bundles
    scenario = load_scenario(site)
    green = scenario_at(scenario, "green")
    assert contestant(str(folders["sampled"]), scenario).policy.knows_dial
    assert contestant(str(folders["sampled"]), green).policy.knows_dial
    assert not contestant(str(folders["own"]), scenario).policy.knows_dial
    assert not contestant(str(folders["green"]), green).policy.knows_dial
    for name, here in (("own", green), ("green", scenario)):
        with pytest.raises(
            InputError, match=r"was trained at one position of the dial, .* Play it with --wish"
        ):
            contestant(str(folders[name]), here)


def test_a_bundle_decides_as_its_run_at_every_position(runs, bundles, site):
    scenario = load_scenario(site)
    for wish in ("green", "performance", "0.3,0.1,0.8"):
        turned = scenario_at(scenario, wish)
        run, bundle = contestant(str(runs["sampled"]), turned).policy, FrozenPolicy.load(bundles["sampled"])
        simulator = Simulator(turned, 32)
        observation = simulator.reset(np.arange(32))
        for _ in range(10):
            mask = simulator.masks()
            expected = run.decide(observation, mask)
            np.testing.assert_array_equal(bundle.decide(observation, mask), expected)
            observation = simulator.step(expected).observation


def test_a_card_says_which_wishes_it_knows(bundles):
    own, green, everything = (
        FrozenPolicy.load(bundles[n]).card["wishes"] for n in ("own", "green", "sampled")
    )
    assert own == {"carbon": 1.0, "latency": 0.5, "accuracy": 0.0, "sampled": False}
    assert green == {"carbon": 1.0, "latency": 0.0, "accuracy": 0.0, "sampled": False}
    assert everything == {**own, "sampled": True}
    assert recorded_wishes(wishes_record(parse_wish("performance"))) == (parse_wish("performance"), False)
    assert recorded_wishes(wishes_record(parse_wish("performance"), knows_all=True))[1]


def test_resuming_at_another_position_is_refused(lab, site, runs):
    with pytest.raises(InputError, match=r"scenario wishes\.latency: the run has 0\.0, now 0\.5"):
        lab.train(site, runs["green"], 2 * STEPS, seed=1, resume=True)
    with pytest.raises(InputError, match="unknown preset 'gren'"):
        lab.train(site, runs["green"].parent / "new", STEPS, wish="gren")


def test_benchmark_at_a_position(runs, site, tmp_path):
    file = tmp_path / "result.json"
    call = ["benchmark", str(site), "--episodes", "3", "--policy", str(runs["sampled"]), "--json", str(file)]
    answer = CliRunner().invoke(app, [*call, "--wish", "performance"])
    assert answer.exit_code == 0, answer.output
    assert "The dial stands at carbon 0, latency 1, accuracy 1." in answer.output
    assert json.loads(file.read_text())["wishes"] == {
        "wish_carbon": 0.0,
        "wish_latency": 1.0,
        "wish_accuracy": 1.0,
    }
    for wish, message in (("sampled", "unknown preset"), ("1,0.5,7", "the dial goes from 0 to 1, got 7")):
        refused = CliRunner().invoke(app, [*call, "--wish", wish])
        assert isinstance(refused.exception, InputError)
        assert message in str(refused.exception)


def test_the_device_shows_the_wish_and_the_log_keeps_the_site(tmp_path, tiny):
    path = quick_site(tmp_path, tiny)
    site = load_site(path).scenario

    async def play():
        async with Lab(options(path, tmp_path / "log", wish="0.25,1,0.75")) as lab:
            await lab.play(3)
        return lab

    lab = asyncio.run(play())
    header = next(r for r in read_log(tmp_path / "log") if isinstance(r, Header))
    columns = [header.features.index(f"wish_{n}") for n in ("carbon", "latency", "accuracy")]
    assert len(lab.records()) == 3
    for record in lab.records():
        assert [record.observation[c] for c in columns] == [0.25, 1.0, 0.75]
    assert header.scenario_sha256 == scenario_sha256(
        site
    )  # so that verify takes the log with the same site file
    with pytest.raises(InputError, match="the dial goes from 0 to 1, got 2"):
        check(options(path, tmp_path / "other", wish="2,0,0"), SystemClock())
