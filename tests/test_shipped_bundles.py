"""Every bundle that is shipped, and one made here so that these tests are tried where none is."""

import ast
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from bundle_builder import check_never_unpickled, forged, swap_weights
from risk_builder import make_risk, simulated

from carbonpilot.agents import shipped
from carbonpilot.agents.bundle import CARD_FILE, GRAPH_FILE, HASHED_FILES, read_bundle
from carbonpilot.agents.compatibility import check_compatible
from carbonpilot.agents.export_risk import export_risk
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.parity import compare_outputs, run_onnx
from carbonpilot.agents.policy import Policy
from carbonpilot.agents.policy_registry import contestant
from carbonpilot.agents.risk import policy as learned_risk
from carbonpilot.agents.risk.folder import is_risk_folder, read_risk
from carbonpilot.envs.dial import scenario_at
from carbonpilot.envs.errors import BundleError, InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256, shipped_scenarios
from carbonpilot.real.observer import Doubts
from carbonpilot.real.shield import Shield

SHIPPED = ("metro", "metro-wide", "khan-mixed")
LARGEST_BYTES = 300_000
OBSERVATIONS = 2000
HERE = "made-here"
FOLDERS = sorted(path.parent.name for path in shipped.SHIPPED.glob(f"*/{CARD_FILE}"))


def test_what_must_be_there_is_there():
    assert set(SHIPPED) <= set(FOLDERS)


@pytest.mark.parametrize(
    ("name", "simulated", "device"),
    [
        ("metro", "metro", "metro-wide"),  # the site itself; a calibrated one has other numbers
        ("metro-mild", "metro", "metro-wide"),
        ("metro-wide", "metro-wide", "metro-wide"),
        ("metro-heldout", "metro-wide", "metro-wide"),  # what metro's agent has met is held out there
        ("khan-mixed", "khan-mixed", "khan-mixed"),
    ],
)
def test_which_bundle_decides_where(name, simulated, device):
    scenario = load_scenario(name)
    for on_device, expected in ((False, simulated), (True, device)):
        found = shipped.shipped_bundle(scenario, build_table(scenario), on_device)
        assert found.name == expected
    assert learned_risk.shipped_folder(scenario).name == simulated


@pytest.fixture(scope="module", params=[*FOLDERS, HERE])
def bundle(request, tmp_path_factory):
    """Folder of a bundle."""
    if request.param != HERE:
        return shipped.SHIPPED / request.param
    metro, folder = load_scenario("metro"), tmp_path_factory.mktemp("made")
    return export_risk(make_risk(folder / "risk", metro), folder / "metro", metro)


@pytest.fixture
def copy(bundle, tmp_path):
    """A bundle that may be spoiled."""
    shutil.copytree(bundle, tmp_path / bundle.name)
    return tmp_path / bundle.name


def sites(bundle):
    """The shipped scenarios without recordings at which this bundle decides; traces are not in the checkout."""
    found = [load_scenario(name) for name in shipped_scenarios()]
    found = [scenario for scenario in found if scenario.split == "seeds"]
    return [scenario for scenario in found if bundle.name in own_names(scenario) and fits(bundle, scenario)]


def own_names(scenario):
    """The folder in which the scenario's agent lies, if one is shipped."""
    return [name for name in shipped.folder_names(scenario) if name in FOLDERS][:1]


def fits(bundle, scenario):
    try:
        check_compatible(FrozenPolicy.load(bundle).card, scenario, build_table(scenario))
    except InputError:
        return False
    return True


@pytest.fixture(scope="module")
def played(bundle):
    """Scenario, observations of its evaluation tapes and masks, for each site of the bundle."""
    found = [(scenario, *simulated(scenario, OBSERVATIONS)) for scenario in sites(bundle)]
    assert found, f"{bundle} fits no shipped site"
    return found


def test_it_is_small_and_whole(bundle):
    assert sorted(os.listdir(bundle)) == sorted([CARD_FILE, *HASHED_FILES])
    assert sum(file.stat().st_size for file in bundle.iterdir()) < LARGEST_BYTES
    assert isinstance(FrozenPolicy.load(bundle), Policy)


def test_numpy_and_onnx_agree_on_real_observations(bundle, played):
    policy, graph = FrozenPolicy.load(bundle), (bundle / GRAPH_FILE).read_bytes()
    for _, observations, _ in played:
        parity = compare_outputs(run_onnx(graph, observations), policy, graph, observations)
        assert parity.holds, parity
        assert parity.ties < len(observations) / 100


@pytest.mark.parametrize("name", [name for name in FOLDERS if is_risk_folder(learned_risk.SHIPPED / name)])
def test_the_head_is_the_shipped_one(name):
    """`learned-risk` is what an agent over a head has to beat: over the same head."""
    card, arrays = read_bundle(shipped.SHIPPED / name)
    risk = read_risk(learned_risk.SHIPPED / name)
    assert card["risk"]["made"]["files"] == risk.card.files, (
        "the head was made anew: train over it and export again"
    )
    assert all(
        (arrays[f"risk_{name}"] == values).all() for name, values in risk.arrays.items() if "_" in name
    )


def test_single_decisions_are_those_of_a_batch_and_obey_masks(bundle, played):
    policy, rng = FrozenPolicy.load(bundle), np.random.default_rng(3)
    for scenario, observations, masks in played:
        some, may = observations[::10], masks[::10] & (rng.random(masks[::10].shape) < 0.7)
        may[:, 0] = True
        outputs = np.where(may, policy.logits(some), -np.inf)
        decided = policy.decide(some, may)
        assert (decided == outputs.argmax(axis=1)).all()
        singles = [policy.decide(row, mask) for row, mask in zip(some, may, strict=True)]
        assert all(type(action) is int for action in singles)
        assert may[np.arange(len(singles)), singles].all()
        assert (decided == singles).mean() > 0.99, "a tie may fall either way"
        assert (
            scenario.nothing_to_win is not None or len(set(policy.decide(observations, masks).tolist())) > 1
        )


def test_broken_observations_are_refused_by_the_policy(bundle, played):
    policy = FrozenPolicy.load(bundle)
    scenario, observations, _ = played[0]
    names = build_table(scenario).names
    for feature in range(len(names)):
        row = observations[7].copy()
        row[feature] = [np.nan, np.inf, -np.inf][feature % 3]
        with pytest.raises(InputError, match=f"expected finite features, got {names[feature]} = "):
            policy.decide(row)
    with pytest.raises(InputError, match="allows no placement at all"):
        policy.decide(observations[0], np.zeros(len(scenario.placements), dtype=bool))


def test_under_the_shield_every_frame_gets_a_placement(bundle, played):
    """Broken observations go to the device, so does everything where nothing else may be used; all of it is counted."""
    for scenario, observations, _ in played:
        shield, broken = Shield(FrozenPolicy.load(bundle), scenario), 0
        for n, row in enumerate(observations[:300]):
            if n % 3 == 0:
                row, broken = row.copy(), broken + 1
                row[n % len(row)] = [np.nan, np.inf, -np.inf][n % 9 // 3]
            decision = shield.decide(row, 100.0 * n)
            assert 0 <= decision.placement < len(scenario.placements)
            assert (decision.reason == "bad-observation") == (n % 3 == 0)
            assert n % 3 or decision.placement == 0
            shield.record(decision.placement, 50.0, None, 100.0 * n + 50, decision)
        states = shield.states(30_000.0)
        assert states["reasons"]["bad-observation"] == broken
        assert states["policy_error"] is None


@pytest.mark.parametrize("why", ["stale-feed", "stale-probe", "breaker"])
def test_what_cannot_be_relied_on_is_not_used(bundle, played, why):
    for scenario, observations, _ in played:
        count = len(scenario.placements)
        everything = Doubts("stale-feed" if why == "stale-feed" else None, (None,) * count)
        if why == "stale-probe":
            everything = Doubts(None, (None, *(why,) * (count - 1)))
        shield = Shield(FrozenPolicy.load(bundle), scenario, doubts=lambda found=everything: found)
        if why == "breaker":
            for place in range(1, count):
                for _ in range(20):
                    shield.record(place, None, "unreachable", 0.0)
        chosen = [shield.decide(row, 1.0) for row in observations[:50]]
        assert {decision.placement for decision in chosen} == {0}
        if why == "stale-feed":
            assert shield.reasons[why] == 50


def test_old_values_in_the_observation_keep_it_on_the_device(bundle, played):
    """Ages at the end of their range: nothing that they belong to is relied on."""
    for scenario, observations, masks in played:
        table = build_table(scenario)
        ages = [
            i
            for i, name in enumerate(table.names)
            if name.endswith(("probe_age_s", "load_age_s", "feed_age_h"))
        ]
        assert ages
        rows = observations[:50].copy()
        rows[:, ages] = table.high[ages]
        policy = contestant(f"{bundle}+shield", scenario).policy
        policy.reset(50)
        assert (policy.decide(rows, masks[:50]) == 0).all()


@pytest.mark.parametrize("name", [CARD_FILE, *HASHED_FILES])
def test_a_changed_byte_is_refused(copy, name):
    whole = (copy / name).read_bytes()
    for position in np.linspace(0, len(whole) - 1, 25).astype(int):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (copy / name).write_bytes(damaged)
        with pytest.raises(BundleError, match=name):
            FrozenPolicy.load(copy)


def test_changed_arrays_are_refused_even_where_the_hashes_were_made_right(copy):
    _, arrays = read_bundle(copy)
    for name in arrays:
        for wrong in (arrays[name][:-1], np.full_like(arrays[name], np.nan), arrays[name].astype(np.float64)):
            swap_weights(copy, {**arrays, name: wrong})
            with pytest.raises(BundleError, match=name):
                FrozenPolicy.load(copy)
    swap_weights(copy, {**arrays, "surplus": np.zeros(1, np.float32)})
    with pytest.raises(BundleError, match="expected arrays"):
        FrozenPolicy.load(copy)


def test_nothing_is_ever_unpickled(copy, tmp_path):
    check_never_unpickled(copy, tmp_path / "exploded")


def test_a_newer_schema_is_refused(copy):
    forged(copy, schema="carbonpilot/bundle/99")
    with pytest.raises(BundleError, match="written by a newer version: update carbonpilot"):
        FrozenPolicy.load(copy)


def test_other_sites_and_tables_are_refused(bundle, played):
    card, (scenario, _, _) = FrozenPolicy.load(bundle).card, played[0]
    for name in shipped_scenarios():
        other = load_scenario(name)
        if other.family != scenario.family:
            with pytest.raises(BundleError, match="not for"):
                check_compatible(card, other, build_table(other))
    slower = scenario.model_copy(update={"slo": scenario.slo.model_copy(update={"latency_ms": 1234.0})})
    with pytest.raises(BundleError, match="observation table"):
        check_compatible(card, slower, build_table(slower))
    with pytest.raises(BundleError, match="another observation table"):
        FrozenPolicy.load(bundle, table_sha256="feed" * 16)


def test_the_card_is_complete(bundle):
    card, _ = read_bundle(bundle)
    training, cost = card["training"], card["training"]["cost"]
    assert card["parity"]["actions_differing"] == 0
    assert len(card["must_not_be_used_for"]) >= 8
    assert training["finished"]
    for key in ("seconds", "energy_kwh", "emissions_g"):
        assert cost[key] is None or cost[key] > 0, "what is unknown is null, never zero"
        assert (cost[key] is None) == any(part[key] is None for part in cost["parts"])
    assert (cost["unknown"] == []) == all(
        cost[key] is not None for key in ("seconds", "energy_kwh", "emissions_g")
    )
    if bundle.parent != shipped.SHIPPED:
        return  # made here, with nothing behind it
    assert training["command"].startswith("carbonpilot ")
    assert training["commit"] != "unknown"
    assert card["risk"] is None or card["risk"]["made"]["training"]["command"].startswith("carbonpilot ")
    site = load_scenario(card["scenario"])
    trained_on = {scenario_sha256(site), scenario_sha256(scenario_at(site, "sampled"))}
    assert card["scenario_sha256"] in trained_on, "the site has changed since: train again"
    assert card["scores"].keys() & {scenario.name for scenario in sites(bundle)}
    for scores in card["scores"].values():
        for metric in ("carbon_mg_per_request", "slo_miss_rate", "episodes_meeting_slo", "latency_p95_ms"):
            low, high = scores[metric]["ci95"]
            assert low <= scores[metric]["mean"] <= high
        assert scores["part"] == "evaluation"
        assert scores["episodes"] >= 100
        assert scores["command"].startswith("carbonpilot ")


FRESH = """
import sys
from carbonpilot.agents.frozen import FrozenPolicy
import numpy
policy = FrozenPolicy.load(sys.argv[1])
size = len(policy.card["observation"]["features"])
print(policy.decide(numpy.zeros(size, dtype=numpy.float32)))
heavy = ["torch", "gymnasium", "stable_baselines3", "pydantic", "scipy", "onnx", "onnxruntime", "yaml"]
print([name for name in heavy if name in sys.modules])
"""


def test_a_fresh_process_needs_numpy_alone(bundle):
    run = [sys.executable, "-W", "error", "-c", FRESH, str(bundle)]
    action, heavy = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert heavy == "[]"
    assert 0 <= int(action) < 32


def test_a_wheel_holds_every_file_of_them():
    project = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text()
    found = re.search(r'^"carbonpilot\.agents" = (\[.*\])$', project, flags=re.M)
    assert found
    globs = ast.literal_eval(found[1])
    for name in FOLDERS or ["metro"]:
        for file in (CARD_FILE, *HASHED_FILES):
            assert any(fnmatch(f"pretrained/{name}/{file}", pattern) for pattern in globs)
