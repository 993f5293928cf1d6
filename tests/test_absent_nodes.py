"""A site whose deployment leaves out a node of its scenario: told everywhere, used nowhere, in simulator and run."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import yaml
from conftest import TINY
from device_room import Wants, quick_levels, snapshot, vector, zones
from runtime_fixture import Lab, options, quick_site
from site_builder import site_content, site_of
from test_calibrate_site import TINY as EFFORT

from carbonpilot.envs.absence import links_in_use, without_nodes, zones_in_use
from carbonpilot.envs.errors import ScenarioError
from carbonpilot.envs.scenario import load_scenario, merge, scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated
from carbonpilot.oracle.solvers import solve_budget_coupled
from carbonpilot.real.calibrate.calibration import calibrate
from carbonpilot.real.calibrate.deployment import read_deployment
from carbonpilot.real.calibrate.job import Wanted
from carbonpilot.real.calibrate.site_writer import site_yaml
from carbonpilot.real.doctor.site_checks import site_findings
from carbonpilot.real.executors.make import make_executors
from carbonpilot.real.executors.standin import StandInExecutor
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.log_records import EventRecord, FrameRecord, WorldRecord, read_log
from carbonpilot.real.observer import Observer
from carbonpilot.real.observer.levels import node_sha256
from carbonpilot.real.shield import Shield
from carbonpilot.real.site_file import FrameSize, SiteFile, load_site
from carbonpilot.real.verify.simulated_log import write_simulated_log
from carbonpilot.real.verify.verification import verify_log

# A second server, far cheaper than all else, behind a link of its own in a zone of its own.
FAR = {
    "links": {"satellite": {**TINY["links"]["uplink"], "network_zone": "sky"}},
    "nodes": {"far": {**TINY["nodes"]["edge"], "link": "satellite", "zone": "north"}},
    "zones": {
        "north": {"kind": "constant", "carbon_g_per_kwh": 1},
        "sky": {"kind": "constant", "carbon_g_per_kwh": 2},
    },
    "placements": [*TINY["placements"], {**TINY["placements"][1], "name": "far-b0", "node": "far"}],
}
# What a deployment says that leaves it out.
LEFT_OUT = {
    "remote": {"edge-b0": {"model": "segformer-b0", "encoding": "uint8"}},
    "servers": {"edge": {"grpc": "127.0.0.1:1"}},
    "probes": {"uplink": {"host": "127.0.0.1", "port": 1, "method": "echo"}},
    "feeds": {"source": "country-default", "interval_s": 60, "zones": {"home": "POL", "away": "FRA"}},
}


def two_servers(**changes) -> Scenario:
    return validated(Scenario, merge(merge(copy.deepcopy(TINY), FAR), changes), "two servers")


def left_out(**changes) -> SiteFile:
    return site_of(two_servers(), **{**LEFT_OUT, **changes})


def test_what_a_deployment_leaves_out_is_absent_in_the_scenario():
    site = left_out()
    assert site.absent == ("far",)
    assert site.scenario.nodes["far"].availability.probability == 0
    assert site.scenario.nodes["edge"].availability is None
    assert links_in_use(site.scenario) == ("uplink",)
    assert zones_in_use(site.scenario) == ("away", "home")
    whole = site_of(two_servers())
    assert whole.absent == ()
    assert zones_in_use(whole.scenario) == ("away", "home", "north", "sky")


def test_training_on_such_a_site_file_never_has_the_node(tmp_path):
    content = site_content(two_servers(), **LEFT_OUT)
    assert (
        "availability" not in content["scenario"]["nodes"]["far"]
    )  # taken out by hand after the calibration
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(content))
    scenario = load_scenario(path)
    assert scenario == load_site(path).scenario
    simulator = Simulator(scenario, 4)
    simulator.reset(np.arange(4))
    np.testing.assert_array_equal(simulator.masks(), [[True, True, False]] * 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"servers": {"egde": {"grpc": "h:1"}}}, r"'egde' is not in the scenario. Did you mean 'edge'"),
        (
            {"remote": {"edge-bO": LEFT_OUT["remote"]["edge-b0"]}},
            r"'edge-bO' is not in the scenario. Did you",
        ),
        ({"remote": {}}, r"deployment.remote: 'edge-b0' is missing"),
        (
            {"remote": {**LEFT_OUT["remote"], "far-b0": LEFT_OUT["remote"]["edge-b0"]}},
            r"'far-b0' is on node 'far', of which deployment.servers names no server",
        ),
        ({"probes": {}}, r"deployment.probes: 'uplink' is missing"),
        ({"feeds": {**LEFT_OUT["feeds"], "zones": {"home": "POL"}}}, r"'away' is missing"),
        (
            {"feeds": {**LEFT_OUT["feeds"], "zones": {"home": "POL", "awry": "FRA"}}},
            r"'awry' is not in the scen",
        ),
    ],
)
def test_a_misspelt_name_or_half_a_node_stays_an_error(changes, said):
    with pytest.raises(ScenarioError, match=said):
        left_out(**changes)


def test_a_misspelt_server_does_not_train_without_its_node(tmp_path):
    content = site_content(two_servers(), servers={"edge": {"grpc": "h:1"}, "fra": {"grpc": "h:1"}})
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ScenarioError, match=r"'fra' is not in the scenario. Did you mean 'far'"):
        load_scenario(tmp_path / "site.yaml")


def test_a_server_of_a_node_that_was_calibrated_as_absent_is_refused():
    gone = Scenario.model_validate(without_nodes(scenario_dict(two_servers()), ["far"]))
    with pytest.raises(
        ScenarioError, match="'far' has a server, and the scenario says that it is never there"
    ):
        site_of(gone)


def test_what_only_an_absent_node_needs_may_be_named():
    whole = site_of(two_servers()).deployment
    site = left_out(
        probes=whole.model_dump(mode="json")["probes"], feeds=whole.model_dump(exclude_none=True)["feeds"]
    )
    assert site.absent == ("far",)


def test_a_device_alone_is_a_site_too():
    site = left_out(remote={}, servers={}, probes={}, feeds={**LEFT_OUT["feeds"], "zones": {"home": "POL"}})
    assert site.absent == ("edge", "far")
    assert links_in_use(site.scenario) == ()


def test_levels_stay_good_when_a_node_is_left_out():
    there, gone = two_servers(), left_out().scenario
    assert node_sha256(there.nodes["far"]) == node_sha256(gone.nodes["far"])


def test_the_observer_shows_it_as_the_simulator_does_and_calls_nothing_unknown_but_its_link():
    scenario = left_out().scenario
    observer = Observer(scenario, quick_levels(scenario))
    known = snapshot(scenario)
    known = replace(known, links={"uplink": known.links["uplink"]}, loads={"edge": known.loads["edge"]})
    observer.refresh(known, zones(scenario, north=None, sky=None), 0.0)
    seen, table = observer.observe(1.0, 50.0) * observer.table.scale, observer.table.index
    assert seen[table["far_carbon_g_per_kwh"]] == 1500
    assert seen[table["far_load"]] == 1
    assert seen[table["far_load_age_s"]] == 30
    assert seen[table["far-b0_latency_ms"]] == pytest.approx(4 * scenario.slo.latency_ms)
    assert {name.split("_")[0] for name in observer.unknown} == {"satellite", "far-b0"}
    assert observer.doubts.device is None
    assert not observer.doubts.any


@pytest.mark.parametrize("changes", [{}, {"slo_budget_spent": 3.9}, {"slo_budget_spent": 0.9}])
def test_the_shield_never_sends_there_whatever_looks_good(changes):
    """Also where guards choose for themselves, and the absent placement seems the best of all."""
    scenario = left_out().scenario
    good = vector(scenario, far_b0_latency_ms=1.0, far_b0_carbon_mg=0.0, **changes)
    policy = Wants(2)
    guarded = Shield(policy, scenario)
    for n in range(50):
        decision = guarded.decide(good, 100.0 * n)
        assert decision.placement != 2
        assert not decision.mask[2]
        guarded.record(decision.placement, 500.0, None, 100.0 * n + 90, decision)
    assert {tuple(mask) for mask in policy.seen} == {(True, True, False)}
    assert guarded.states(0.0)["placements"]["far-b0"]["why"] == "absent"
    if not changes:
        assert "absent" in guarded.reasons


@pytest.fixture
def site(tmp_path, tiny) -> Path:
    """Its file, with quick stand-ins."""
    place = {"remote": {"far-b0": None}, "servers": {"far": None}, "probes": {"satellite": None}}
    path = quick_site(tmp_path, merge(tiny, {k: v for k, v in FAR.items() if k != "placements"}))
    content = yaml.safe_load(path.read_text())
    scenario, deployment = content["scenario"], content["deployment"]
    edge = next(p for p in scenario["placements"] if p["name"] == "edge-b0")
    scenario["placements"].append({**edge, "name": "far-b0", "node": "far"})
    content["deployment"] = merge(
        deployment, {k: {n: None for n in v if n in deployment[k]} for k, v in place.items()}
    )
    for zone in ("north", "sky"):
        content["deployment"]["feeds"]["zones"].pop(zone, None)
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_run_tells_it_and_never_uses_it(site, tmp_path):
    lab = Lab(options(site, tmp_path / "log", policy="round-robin", listen="127.0.0.1:0"))

    async def live():
        async with lab:
            lab.run.checked.policy.decide = lambda observation, mask: 2
            await lab.play(6)
            await lab.recorded()
            status = lab.run.status.content()
            with await asyncio.to_thread(urlopen, f"{lab.run.address}metrics") as answer:
                return status, answer.read().decode()

    status, page = asyncio.run(live())
    assert status["absent_nodes"] == ["far"]
    assert set(status["breakers"]) == {"local", "edge"}
    assert set(status["links"]) == {"uplink"}
    assert status["zones_without_reading"] == []
    assert set(status["providers"]) == {"local", "edge-b0"}
    records = list(read_log(tmp_path / "log"))
    frames = [r for r in records if isinstance(r, FrameRecord)]
    assert {(r.wanted, r.executed, r.reason) for r in frames} == {("far-b0", "local", "absent")}
    assert {tuple(r.mask) for r in frames} == {(1, 1, 0)}
    events = [r for r in records if isinstance(r, EventRecord) and r.event == "absent"]
    assert [(e.subject, "far-b0 never used" in e.detail) for e in events] == [("node far", True)]
    worlds = [r for r in records if isinstance(r, WorldRecord)]
    assert set(worlds[-1].zones) == {"home", "away"}
    assert set(worlds[-1].links) == {"uplink"}
    assert 'carbonpilot_state{state="absent",subject="node far"} 1.0' in page
    assert 'carbonpilot_frames_total{placement="local",reason="absent"} 6.0' in page


def test_the_command_says_so_and_refuses_a_policy_that_could_only_use_it(site):
    start = [sys.executable, "-c", "from carbonpilot.cli import main; main()", "run", "--site", str(site)]
    start += ["--images", "synthetic:3", "--stand-in", "--listen", "none", "--log", str(site.parent / "l")]
    done = subprocess.run([*start, "--policy", "always-far-b0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "wants node 'far', which the site file leaves out" in done.stderr
    done = subprocess.run([*start, "--policy", "round-robin"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "node far is absent: the site file leaves it out: far-b0 never used" in done.stdout


def test_the_doctor_names_it_and_asks_nothing_of_it(tmp_path):
    found = {f.name: f for f in site_findings(left_out(), tmp_path / "site.yaml", tmp_path / "logs")}
    assert found["node far"].state == "missing"
    assert "far-b0 will never be used" in found["node far"].detail
    assert "calibrate again" in found["node far"].mend
    assert not {"placement far-b0", "metrics of far", "feed for north", "probe of satellite"} & set(found)
    assert {"placement edge-b0", "metrics of edge", "feed for away", "probe of uplink"} <= set(found)


def test_calibrate_measures_what_is_there_and_says_what_is_not(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not really a model")
    base = two_servers()
    local = {"file": "model.onnx", "providers": ["cpu"], "intra_op_threads": 1}
    text = {**LEFT_OUT, "remote": {}, "servers": {}, "probes": {}, "local": local, "meters": []}
    text |= {"frame": {"height": 64, "width": 128}, "feeds": {**LEFT_OUT["feeds"], "zones": {"home": "POL"}}}
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump(text))
    where = read_deployment(tmp_path / "deploy.yaml", tmp_path)
    wanted = Wanted(base, "two", where, tmp_path, {}, None, False, "synthetic:6")
    frames = list(open_frames("synthetic:6", FrameSize(height=64, width=128), jpeg_quality=None))
    draft = site_of(base, **{k: v for k, v in text.items() if k not in ("local", "meters")})
    assert set(make_executors(draft, tmp_path)) == {"local"}
    device = StandInExecutor(base.placements[0], seed=0, mask_size=(16, 32))
    found = asyncio.run(calibrate(wanted, {"local": device}, frames, EFFORT, lambda what: None))
    assert found.site.absent == ("edge", "far")
    assert found.site.provenance.numbers["nodes.far.availability.probability"].kind == "derived"
    assert any(note.startswith("far is absent: the deployment leaves it out") for note in found.notes)
    assert found.site.scenario.links == base.links  # what was not measured stays as it was
    (tmp_path / "site.yaml").write_text(site_yaml(found.site))
    assert load_site(tmp_path / "site.yaml") == found.site


def test_verify_plays_and_plans_without_it(tmp_path):
    """Hindsight would send everything to the node that is not there."""
    scenario = left_out().scenario
    plans = []

    def hindsight(scenario, tape):
        plans.append(solve_budget_coupled(scenario, tape).plan)
        return plans[-1]

    log = write_simulated_log(tmp_path / "log.jsonl", scenario, lambda n, _: n % 2, seed=3)
    lines = log.read_text()
    for name in ("satellite", "north", "sky"):  # of its link and zones a run knows nothing
        lines = lines.replace(f'"{name}":', f'"no-{name}":')
    log.write_text(lines)
    found = verify_log(log, left_out(), hindsight=hindsight, draws=8)
    assert found.regret is not None
    assert set(np.unique(plans)) <= {0, 1}
    assert any("far is absent" in note for note in found.notes)
    assert not any("far-b0 (0)" in note for note in found.notes)
