"""What is held out is disjoint from what is trained on, and nothing can be trained or tuned on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from carbonpilot.agents.rule_parameters import tuned_rules
from carbonpilot.agents.training_plan import make_plan
from carbonpilot.agents.tune import run_tune
from carbonpilot.agents.tuned_file import TUNED
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.fit_sources import CAPACITY_FILES, LINK_SOURCES
from carbonpilot.envs.fit_zones import ZONE_SOURCES
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256, shipped_scenarios
from carbonpilot.envs.schema import SameZone
from carbonpilot.envs.traces.patterns import assert_disjoint, file_parts

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data"
HELD_OUT = [name for name in shipped_scenarios() if load_scenario(name).held_out_from is not None]
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="reads recorded traces, which are not here")


def regions(scenario):
    """Regions or files that any zone can draw."""
    own = [zone for zone in scenario.zones.values() if not isinstance(zone, SameZone)]
    return {name for zone in own for name in (zone.regions if zone.kind == "generated" else zone.files)}


def operator(file):
    """Operator (or network) that a recording is of, from its name; a name without a known one fails."""
    words = Path(file.partition("@")[0]).stem.split("_")
    return next(w for w in words if w in ("att", "verizon", "tmobile", "kiel", "seattle", "5g"))


def test_there_is_a_held_out_site_for_generators_and_one_for_recordings():
    assert HELD_OUT == ["metro-heldout", "metro-heldout-traces"]
    assert load_scenario("metro-heldout", traces=True).name == "metro-heldout-traces"
    assert load_scenario("metro-wide", traces=True).name == "metro-wide-traces"


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_bundle_of_the_training_site_fits(name):
    held, trained = load_scenario(name), load_scenario(load_scenario(name).held_out_from)
    assert held.family == trained.family == "metro"
    assert (
        build_table(held).sha256 == build_table(trained).sha256 == build_table(load_scenario("metro")).sha256
    )
    assert [p.name for p in held.placements] == [p.name for p in trained.placements]


@pytest.mark.parametrize("name", HELD_OUT)
def test_no_region_is_in_both(name):
    held, trained = load_scenario(name), load_scenario(load_scenario(name).held_out_from)
    assert not regions(held) & regions(trained)
    assert len(regions(held)) + len(regions(trained)) == len(ZONE_SOURCES)


def test_no_family_no_recording_and_no_operator_is_in_both_generated_sites():
    held, trained = (
        load_scenario(n).links["uplink"].source.families for n in ("metro-heldout", "metro-wide")
    )
    assert not set(held) & set(trained)
    files = [{f for name in families for f in LINK_SOURCES[name].fitted} for families in (held, trained)]
    assert not {f.partition("@")[0] for f in files[0]} & {f.partition("@")[0] for f in files[1]}
    assert not {operator(f) for f in files[0]} & {operator(f) for f in files[1]}
    days = [{Path(f).stem.split("_")[2] for f in part if "us_drive" in f} for part in files]
    assert days[0]
    assert not days[0] & days[1]


def test_only_the_uplink_shape_is_shared_and_the_page_says_so():
    page = (Path(__file__).parents[1] / "docs" / "generalisation.md").read_text()
    assert len(CAPACITY_FILES) == 3
    assert "shape of the uplink" in page


@needs_traces
def test_no_recorded_row_operator_or_hour_is_in_both_recorded_sites():
    held, trained = load_scenario("metro-heldout-traces"), load_scenario("metro-wide-traces")
    seen, unseen = trained.links["uplink"].source.training, held.links["uplink"].source.evaluation
    assert held.links["uplink"].source.training == seen  # so that loading the library checks it too
    assert_disjoint(seen, unseen, TRACES)
    names = [
        {operator(part.path.name) for part in file_parts(TRACES, patterns)} for patterns in (seen, unseen)
    ]
    assert not names[0] & names[1]
    for a in (zone for zone in held.zones.values() if not isinstance(zone, SameZone)):
        for b in (zone for zone in trained.zones.values() if not isinstance(zone, SameZone)):
            assert a.evaluation_from >= b.training_before


@pytest.mark.parametrize("name", HELD_OUT)
def test_nothing_is_trained_or_tuned_on_it(name, tmp_path):
    site = load_scenario(name)
    traces = TRACES if site.split == "traces" else None
    if traces is not None and not traces.is_dir():
        pytest.skip("reads recorded traces, which are not here")
    match = rf"'{name}' is held out for evaluation.*Use '{site.held_out_from}'"
    with pytest.raises(InputError, match=match):
        make_plan(name, "ppo", 1000, 0, traces, None, {})
    with pytest.raises(InputError, match=match):
        run_tune(name, ["rtt-threshold"], tmp_path / "tuned.yaml", traces=traces)
    assert not list(tmp_path.iterdir())


def test_rules_play_with_what_was_tuned_on_the_training_site(tmp_path, monkeypatch):
    content = {
        "schema": "carbonpilot/tuned/1",
        "scenario": "metro-wide",
        "scenario_sha256": scenario_sha256(load_scenario("metro-wide")),
        "policies": {"rtt-threshold": {"parameters": {"offload_below_ms": 33.0}}},
    }
    file = tmp_path / "metro-wide.yaml"
    file.write_text(yaml.safe_dump(content))
    held = load_scenario("metro-heldout")
    assert tuned_rules(held, file).parameters == {"rtt-threshold": {"offload_below_ms": 33.0}}
    monkeypatch.setattr("carbonpilot.agents.rule_parameters.TUNED", tmp_path)
    assert tuned_rules(held).parameters == {"rtt-threshold": {"offload_below_ms": 33.0}}
    with pytest.raises(InputError, match=r"tuned for scenario 'metro', not for 'metro-wide'"):
        tuned_rules(held, TUNED / "metro.yaml")


def test_training_sites_are_wider_than_metro():
    wide, metro = load_scenario("metro-wide"), load_scenario("metro")
    assert wide.arrivals.low_per_s < metro.arrivals.low_per_s
    assert wide.arrivals.high_per_s * wide.shift.rate_factor.high >= 1.5 * metro.arrivals.high_per_s
    assert wide.payload.low_kb < metro.payload.low_kb
    assert wide.payload.high_kb > metro.payload.high_kb
    a, b = (s.links["uplink"].source.uplink_median for s in (wide, metro))
    assert a.low_mbps < b.low_mbps
    assert a.high_mbps > b.high_mbps
    assert wide.device.throttling.ambient_spread > metro.device.throttling.ambient_spread
    assert wide.nodes["edge"].background.mean_high_load > metro.nodes["edge"].background.mean_high_load


def test_payloads_of_an_episode_span_a_share_of_the_range():
    from carbonpilot.envs.simulator import Simulator

    simulator = Simulator("metro-wide", 400)
    simulator.reset(np.arange(400))
    sizes, spec = simulator.tape.payload_kb, simulator.scenario.payload
    width = spec.high_kb - spec.low_kb
    spans = np.ptp(sizes, axis=0)
    assert spans.max() <= spec.episode_share * width * 1.001
    assert spans.min() > 0.95 * spec.episode_share * width
    assert sizes.min() >= spec.low_kb
    assert sizes.max() <= spec.high_kb
    assert np.ptp(sizes.mean(axis=0)) > 0.4 * width  # sites differ
