"""The policy `pretrained`: found for a site or its family, refused where it does not fit, on the device too."""

import asyncio
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import runtime_fixture
from risk_builder import make_risk, simulated_observations
from runtime_fixture import QUICK, Lab, options

from carbonpilot.agents import shipped
from carbonpilot.agents.benchmark import benchmark
from carbonpilot.agents.bundle import CARD_FILE, read_card, seal
from carbonpilot.agents.card_scores import bundles, write_scores
from carbonpilot.agents.export_risk import export_risk
from carbonpilot.agents.policy_registry import contestant, default_policies, resolve
from carbonpilot.agents.risk import policy as learned_risk
from carbonpilot.envs.errors import BundleError, InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, merge, scenario_sha256
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.log_records import EventRecord, read_log
from carbonpilot.real.runtime.checked import check
from carbonpilot.real.runtime.checks import open_policy, policy_note
from carbonpilot.real.site_file import load_site

PLACES = [{**QUICK["placements"][0], "name": "here"}, QUICK["placements"][1]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of shipped agents with one for the family metro."""
    folder = tmp_path_factory.mktemp("shipped")
    metro = load_scenario("metro")
    export_risk(make_risk(folder / "head", metro), folder / "pretrained" / "metro", metro)
    return folder / "pretrained"


@pytest.fixture
def agents(made, monkeypatch):
    monkeypatch.setattr(shipped, "SHIPPED", made)
    return made


def changed(scenario, **changes):
    content = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    return validated(Scenario, merge(content, changes), "changed")


def test_it_stands_in_every_benchmark_of_its_family(agents):
    for name in ("metro", "metro-mild", "metro-wide", "clean-device"):
        scenario = load_scenario(name)
        assert "pretrained" in default_policies(scenario)
        entry = contestant("pretrained", scenario)
        assert (entry.name, entry.kind, entry.folder) == ("pretrained", "learned", agents / "metro")
        assert contestant("pretrained+shield", scenario).folder == agents / "metro"
    observation = simulated_observations(load_scenario("metro"), 30)
    mask = np.ones((30, 5), dtype=bool)
    by_name, by_folder = (
        resolve(name, load_scenario("metro")) for name in ("pretrained", str(agents / "metro"))
    )
    assert (by_name.decide(observation, mask) == by_folder.decide(observation, mask)).all()


def test_the_sites_own_agent_comes_before_its_familys(agents, made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "pretrained")
    shutil.copytree(made / "metro", tmp_path / "pretrained" / "metro-mild")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "pretrained")
    assert (
        contestant("pretrained", load_scenario("metro-mild")).folder == tmp_path / "pretrained" / "metro-mild"
    )
    assert contestant("pretrained", load_scenario("metro")).folder == tmp_path / "pretrained" / "metro"


def test_a_held_out_site_takes_what_was_trained_on_its_training_ground(agents, made, tmp_path, monkeypatch):
    """That of the family may have met what is held out."""
    heldout = load_scenario("metro-heldout")
    assert contestant("pretrained", heldout).folder == agents / "metro"
    shutil.copytree(made, tmp_path / "pretrained")
    shutil.copytree(made / "metro", tmp_path / "pretrained" / heldout.held_out_from)
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "pretrained")
    assert contestant("pretrained", heldout).folder == tmp_path / "pretrained" / "metro-wide"
    assert contestant("pretrained", load_scenario("metro")).folder == tmp_path / "pretrained" / "metro"


def test_where_none_is_shipped_the_error_says_how_to_make_one(agents):
    khan = load_scenario("khan-mixed")
    assert "pretrained" not in default_policies(khan)
    commands = (
        "risk train khan-mixed --out RISK_DIR",
        "train khan-mixed --risk RISK_DIR .*",
        "export RUN_DIR .*",
    )
    said = "; ".join(f"`carbonpilot {command}`" for command in commands)
    with pytest.raises(InputError, match=said):
        resolve("pretrained", khan)
    with pytest.raises(InputError, match=r"Unknown policy 'pretraind'.*Did you mean 'pretrained'"):
        resolve("pretraind", khan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slo": {"latency_ms": 100}}, "observation table is not that of scenario"),
        ({"wishes": {"carbon": 0.1}}, None),  # a price alone knows the dial
    ],
)
def test_another_table_of_the_family_is_refused(agents, changes, message):
    other = changed(load_scenario("metro"), **changes)
    assert ("pretrained" in default_policies(other)) == (message is None)
    if message is not None:
        with pytest.raises(BundleError, match=message):
            resolve("pretrained", other)


def test_other_nodes_and_placements_are_refused(agents):
    metro = load_scenario("metro")
    content = metro.model_dump(mode="json", by_alias=True, exclude_none=True)
    content["placements"][3]["node"], content["placements"][4]["node"] = "south", "north"
    with pytest.raises(BundleError, match=r"are on \[.*'north', 'south'\], those of .*'south', 'north'\]"):
        resolve("pretrained", validated(Scenario, content, "swapped"))
    fewer = metro.model_copy(update={"placements": metro.placements[:4]})
    with pytest.raises(BundleError, match="chooses among"):
        resolve("pretrained", fewer)


def test_a_card_without_nodes_is_read(agents, tmp_path, monkeypatch):
    """Bundles made before nodes were noted."""
    shutil.copytree(agents, tmp_path / "pretrained")
    folder = tmp_path / "pretrained" / "metro"
    card = {key: value for key, value in read_card(folder).items() if key != "nodes"}
    (folder / CARD_FILE).write_bytes(seal(card))
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "pretrained")
    assert resolve("pretrained", load_scenario("metro")).name == "pretrained"


def test_its_scores_go_into_its_card_by_name(agents, tmp_path, monkeypatch, shortened):
    monkeypatch.setattr(learned_risk, "SHIPPED", tmp_path / "none")
    shutil.copytree(agents, tmp_path / "pretrained")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "pretrained")
    _, scenario = shortened()
    folder = tmp_path / "pretrained" / "metro"
    assert bundles(["pretrained", str(folder)], scenario) == [folder]
    result = benchmark(scenario, [], episodes=2, seed=5)
    assert write_scores(result, bundles(["pretrained"], scenario)) == [folder / CARD_FILE]
    scores = read_card(folder)["scores"]["metro"]
    low, high = scores["carbon_mg_per_request"]["ci95"]
    assert low <= scores["carbon_mg_per_request"]["mean"] <= high


def test_a_shipped_bundle_that_plays_elsewhere_gets_its_own_scores(agents, tmp_path, monkeypatch, shortened):
    """Not those of `pretrained`, which is another one there."""
    monkeypatch.setattr(learned_risk, "SHIPPED", tmp_path / "none")
    shutil.copytree(agents, tmp_path / "pretrained")
    _, scenario = shortened()
    wide = tmp_path / "pretrained" / "metro-wide"
    export_risk(make_risk(tmp_path / "head", scenario, seed=9), wide, scenario)
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "pretrained")
    result = benchmark(scenario, [str(wide)], episodes=2, seed=5)
    assert write_scores(result, bundles([str(wide)], scenario)) == [wide / CARD_FILE]
    written = read_card(wide)["scores"]["metro"]["carbon_mg_per_request"]["mean"]
    rows = {row.name: row.metrics["carbon_mg_per_request"].mean() for row in result.results}
    assert written == pytest.approx(rows["metro-wide"])
    assert abs(rows["pretrained"] - written) > 1e-3


@pytest.fixture
def device(tiny, tmp_path, monkeypatch):
    """The site of a device, and a shipped agent that was trained before the site was calibrated."""
    trained = validated(Scenario, merge(tiny, QUICK), "trained")
    export_risk(make_risk(tmp_path / "head", trained), tmp_path / "pretrained" / "tiny", trained)
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "pretrained")
    calibrated = {"device": {"idle_power_w": 5.5}, "payload": {"low_kb": 30, "high_kb": 70}}
    return trained, runtime_fixture.quick_site(tmp_path, tiny, **calibrated)


def test_a_run_takes_the_shipped_agent_by_name_and_notes_the_other_numbers(device, tmp_path, caplog):
    trained, file = device
    site = load_site(file)
    assert scenario_sha256(site.scenario) != scenario_sha256(trained)
    caplog.set_level("INFO", "carbonpilot")
    lab = Lab(options(file, tmp_path / "log", policy=None, bundle=Path("pretrained")))

    async def go():
        async with lab:
            await lab.play(10)

    asyncio.run(go())
    records = lab.check_counts(10)
    assert all(0 <= ["local", "edge-b0"].index(r.placement) <= 1 for r in records)
    header, *rest = read_log(tmp_path / "log")
    digest = hashlib.sha256((tmp_path / "pretrained" / "tiny" / CARD_FILE).read_bytes()).hexdigest()
    assert (header.bundle, header.card_sha256) == ("pretrained", digest)
    [note] = [r for r in rest if isinstance(r, EventRecord) and r.event == "policy-note"]
    for digest in (scenario_sha256(trained)[:12], scenario_sha256(site.scenario)[:12]):
        assert digest in note.detail
        assert digest in caplog.text
    assert "the same placements, nodes and features, other numbers" in note.detail


def test_on_the_site_of_its_training_nothing_is_noted(device):
    trained, _ = device
    policy, name, _ = open_policy(Path("pretrained"), None, trained, build_table(trained))
    assert name == "pretrained"
    assert policy_note(policy, trained) is None
    assert policy_note(open_policy(None, "always-local", trained, build_table(trained))[0], trained) is None


def test_a_run_where_nothing_is_shipped_or_fits_is_refused(device, tmp_path, tiny):
    _, file = device
    site = load_site(file).scenario
    elsewhere = site.model_copy(update={"family": "elsewhere", "name": "elsewhere"})
    with pytest.raises(InputError, match="No agent is shipped for site 'elsewhere'"):
        open_policy(Path("pretrained"), None, elsewhere, build_table(elsewhere))
    other = runtime_fixture.write_site(tmp_path, merge(tiny, {"placements": PLACES}))
    wanted = options(other, tmp_path / "log", policy=None, bundle=Path("pretrained"))
    with pytest.raises(BundleError, match="chooses among"):
        check(wanted, SystemClock())
