"""The report's pictures: scales, ticks, what the world looked like, and that points stand where they belong."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.agents.baselines import ObservationReader
from carbonpilot.agents.benchmark import play
from carbonpilot.agents.html_distance import distance_from_hindsight, distance_from_objective
from carbonpilot.agents.html_figures import carbon_against_misses, latency_cdf
from carbonpilot.agents.html_svg import Frame, Picture, half_log, linear, shortened, tail_log, ticks
from carbonpilot.agents.html_time import all_tapes, most_disputed, one_tape
from carbonpilot.agents.observed_world import WorldWatch, over_time
from carbonpilot.agents.policy_registry import contestants
from carbonpilot.agents.rollout import run_policy
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios
from carbonpilot.envs.schema import Episode
from carbonpilot.envs.tape import evaluation_seeds

METRO = load_scenario("metro").model_copy(update={"episode": Episode(requests=60)})
NAMES = ["always-local", "always-edge-b0", "rtt-threshold", "cleanest-zone", "random", "oracle-warm-radio"]


@pytest.fixture(scope="module")
def played():
    return play(contestants(NAMES, METRO), METRO, 12, 0)


def parsed(svg: str) -> ET.Element:
    """A picture must be well-formed XML, or no browser draws it."""
    return ET.fromstring(svg)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_round_even_and_inside(low, width):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in found)
    steps = np.diff(found)
    if len(steps) > 1:
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
        mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
        assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5, 10)) < 0.05


@given(st.floats(0.01, 100), st.floats(1.01, 1000))
def test_scales_are_monotone_and_fill_the_frame(knee, factor):
    scale = half_log(knee, knee * factor)
    values = np.linspace(0, knee * factor, 50)
    positions = [scale(float(v)) for v in values]
    assert positions[0] == 0
    assert positions[-1] == pytest.approx(1)
    assert (np.diff(positions) > 0).all()


def test_the_tail_is_spread_out():
    scale = tail_log(0.01)
    assert scale(0.0) == pytest.approx(0)
    assert scale(0.9) == pytest.approx(0.5)  # one in ten is half-way to one in a hundred
    assert scale(0.99) == pytest.approx(1)
    assert scale(1.0) == pytest.approx(1)  # and not infinite


def test_a_frame_keeps_what_lies_outside_at_its_edge():
    frame = Frame(10, 20, 110, 220, linear(0, 1), linear(0, 2))
    assert frame.at(0.5, 1.0) == (60, 120)
    assert frame.at(9.0, -3.0) == (110, 220)
    assert linear(3, 3)(3) == 0.5


def test_texts_are_escaped_and_titles_said():
    picture = Picture('a "title" & more', 50)
    picture.text(1, 2, "<b> & co")
    root = parsed(picture.svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'a "title" & more'
    assert root.find("text").text == "<b> & co"
    assert shortened("x" * 100) == "x" * 27 + "…" + "x" * 12
    assert shortened("rtt-threshold") == "rtt-threshold"


def test_points_stand_where_their_numbers_are(played):
    root = parsed(carbon_against_misses(played))
    tips = [(g.find("title").text, g[1]) for g in root.iter("g")]
    assert len(tips) == len(played.results)
    found = {}
    for tip, shape in tips:
        name, carbon, missed = re.match(r"(\S+): ([\d.]+) mg, ([\d.]+) % missed", tip).groups()
        assert float(carbon) == pytest.approx(played[name].carbon_mg, abs=0.001)
        numbers = [float(v) for v in re.findall(r"[\d.]+", shape.get("points") or "")]
        x = np.mean(numbers[::2]) if numbers else float(shape.get("cx"))
        y = np.mean(numbers[1::2]) if numbers else float(shape.get("cy"))
        found[name] = (x, y, float(missed), float(carbon))
    points = list(found.values())
    for a in points:
        for b in points:
            if a[2] > b[2] + 0.2:
                assert a[0] > b[0]  # more misses lie further right
            if a[3] > b[3] * 1.02:
                assert a[1] < b[1] + 0.2  # more carbon lies higher


def test_curves_rise_and_end_at_the_frame(played):
    root = parsed(latency_cdf(played))
    curves = [e for e in root.iter("polyline") if e.get("class") in ("curve", "others")]
    assert len(curves) == len(played.results)
    for curve in curves:
        points = np.array([[float(v) for v in p.split(",")] for p in curve.get("points").split()])
        assert (np.diff(points[:, 0]) >= 0).all()
        assert (np.diff(points[:, 1]) <= 0).all()  # more requests are higher up
        assert points[:, 0].max() <= 408.05


def test_distances_name_every_policy_that_matters(played):
    texts = {t.text for t in parsed(distance_from_hindsight(played)).iter("text")}
    assert {"always-local", "oracle-warm-radio", "hindsight", "0 %"} <= texts
    texts = {t.text for t in parsed(distance_from_objective(played)).iter("text")}
    assert "SLO 150 ms" in texts


def test_the_world_is_what_the_policy_saw():
    reader, seen = ObservationReader(METRO), []
    watch = WorldWatch(METRO)

    def both(request, observation):
        watch(request, observation)
        seen.append(reader.value(observation, "uplink_rtt_ms"))

    record = run_policy(
        contestants(["always-local"], METRO)[0].policy, METRO, evaluation_seeds(0, 5), watch=both
    )
    world = watch.world("always-local", record.valid)
    np.testing.assert_allclose(world.rtt_ms["uplink"], seen, rtol=1e-6)
    assert list(world.carbon_g_per_kwh) == ["device", "edge", "north", "south"]
    assert all(5 < values.mean() < 1500 for values in world.carbon_g_per_kwh.values())


def test_chunks_show_the_same_world_as_one_batch():
    worlds = []
    for batch in (256, 2):
        watch = WorldWatch(METRO)
        policy = contestants(["always-local"], METRO)[0].policy
        record = run_policy(policy, METRO, evaluation_seeds(0, 5), batch=batch, watch=watch)
        worlds.append(watch.world("x", record.valid).rtt_ms["uplink"])
    np.testing.assert_array_equal(*worlds)


def test_no_more_of_the_world_is_kept_than_one_can_look_at(monkeypatch):
    monkeypatch.setattr("carbonpilot.agents.observed_world.MOST", 3)
    watch = WorldWatch(METRO)
    policy = contestants(["always-local"], METRO)[0].policy
    record = run_policy(policy, METRO, evaluation_seeds(0, 7), batch=2, watch=watch)
    assert watch.world("x", record.valid).rtt_ms["uplink"].shape == (60, 3)


def test_quantiles_over_time_count_each_episode_once():
    values = np.repeat(np.array([[1.0, 2.0, 3.0]]), 10, axis=0)
    values[5:, 2] = np.nan  # the third episode ends half-way
    found = over_time(values.astype(np.float32), 2, (0.0, 0.5, 1.0))
    np.testing.assert_allclose(found, [[1, 1], [2, 1.5], [3, 2]])
    values[5:] = np.nan
    assert np.isnan(over_time(values.astype(np.float32), 2, (0.5,))[0, 1])


def test_the_example_is_the_tape_of_most_dispute(played):
    rule, zone = played["rtt-threshold"].placement, played["cleanest-zone"].placement
    others = [played[name].placement for name in ("random", "oracle-warm-radio")]
    shown = [rule, zone, *others]
    dispute = sum((a != b).mean(axis=0) for i, a in enumerate(shown) for b in shown[:i])
    assert most_disputed(played) == int(dispute.argmax())


def test_strips_show_the_shares(played):
    root = parsed(one_tape(played, 3))
    fills = [
        p.get("style") for p in root.iter("polygon") if (p.get("style") or "").startswith("fill:var(--p")
    ]
    used = {
        name: np.unique(played[name].placement[:, 3]) for name in ("cleanest-zone", "rtt-threshold", "random")
    }
    assert {f"fill:var(--p{p})" for placements in used.values() for p in placements} <= set(fills)
    assert len(parsed(all_tapes(played)).findall("polygon")) > 4


@pytest.mark.parametrize("name", [n for n in shipped_scenarios() if load_scenario(n).split != "traces"])
def test_every_shipped_site_has_its_pictures(name):
    """Closed loops, no radio, one node, many nodes; sites that read traces are left out."""
    scenario = load_scenario(name)
    scenario = scenario.model_copy(update={"episode": Episode(requests=25)})
    names = ["always-local", "random", "cleanest-zone", "oracle-per-request"]
    found = play(contestants(names, scenario), scenario, 3, 0)
    assert found.excluded == ()
    for picture in (carbon_against_misses, latency_cdf, distance_from_hindsight, all_tapes):
        svg = picture(found)
        parsed(svg)
        assert "nan" not in svg
    assert "nan" not in one_tape(found, most_disputed(found))
