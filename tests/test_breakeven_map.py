"""The map: well-formed, text as text, colours from the page, every line where the closed form says."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from carbonpilot.envs.scenario import load_scenario, shipped_scenarios
from carbonpilot.oracle.breakeven import break_even
from carbonpilot.oracle.breakeven_map import draw_map, map_svg
from carbonpilot.oracle.breakeven_panels import panels, ratio_at_batch, round_trip_at_rate, round_trip_of_slo
from carbonpilot.oracle.breakeven_svg import even_ticks, log_ticks

SVG = "{http://www.w3.org/2000/svg}"
PLAYABLE = [name for name in shipped_scenarios() if load_scenario(name).split != "traces"]


@pytest.fixture(scope="module")
def metro():
    return break_even(load_scenario("metro"))


@pytest.mark.parametrize("name", PLAYABLE)
def test_every_map_is_well_formed_and_scales(name):
    result = break_even(load_scenario(name))
    tree = ElementTree.fromstring(map_svg(result))
    _, _, width, height = (float(v) for v in tree.attrib["viewBox"].split())
    assert tree.attrib["width"] == "100%"
    assert "height" not in tree.attrib
    for text in tree.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 < float(text.attrib["y"]) <= height
    words = " ".join("".join(t.itertext()) for t in tree.iter(f"{SVG}text"))
    assert "Carbon" in words
    assert "Latency" in words
    assert result.scenario.placements[0].name in words
    for placement in result.scenario.placements[1:]:
        assert placement.name in words
    assert not re.search(r"\bnan\b", map_svg(result))


def test_the_svg_needs_nothing_from_elsewhere(metro):
    svg = map_svg(metro)
    assert not re.search(r"href|url\(|<script|<image|<style", svg)
    fixed = re.findall(r'(?:fill|stroke)="(?!none|currentColor)[^"]*"', svg)
    assert fixed == []  # text and axes follow the page, light or dark
    assert set(re.findall(r"stroke: (var\(--breakeven-\d, #\w{6}\))", svg)) <= {
        f"var(--breakeven-{i}, {c})"
        for i, c in ((1, "#2B87C8"), (2, "#D55E00"), (3, "#009E73"), (4, "#C766A0"))
    }


def test_the_carbon_lines_go_through_the_tipping_values(metro):
    local, north = (metro.site.terms[n] for n in ("local-b0", "north-b0"))
    mean = metro.site.batch("north")
    for radio in ("awake", "asleep"):
        line = ratio_at_batch(metro.site, local, north, np.array([1.0, mean, 8.0]), radio)
        tip = metro.pair("local-b0", "north-b0").tip("carbon", "intensity_ratio", "marginal", radio)
        assert line[1] == pytest.approx(tip.value, rel=1e-9)
        assert line[0] < line[1] < line[2]


def test_the_latency_lines_go_through_the_tipping_values(metro):
    site = metro.site
    local, edge = (site.terms[n] for n in ("local-b0", "edge-b0"))
    here = np.array([site.traffic.rate_mbps["uplink"]])
    tip = metro.pair("local-b0", "edge-b0").tip("mean_latency", "round_trip_ms")
    assert round_trip_at_rate(site, local, edge, here)[0] == pytest.approx(tip.value)
    assert round_trip_of_slo(site, edge, here)[0] == pytest.approx(metro.slo["edge-b0"][0].value)
    rates = np.geomspace(10, 100, 9)
    assert (np.diff(round_trip_at_rate(site, local, edge, rates)) > 0).all()
    assert (np.diff(round_trip_of_slo(site, edge, rates)) > 0).all()


def test_placements_with_one_line_share_a_label(metro):
    carbon, latency = panels(metro)
    assert carbon.lines[0].label == "edge-b0, north-b0, south-b0, radio awake"
    assert {bar.label for bar in carbon.bars} == {"edge: always 1", "north spans", "south spans"}
    assert latency.dots is not None


def test_the_picture(metro):
    assert draw_map(metro).startswith(b"\x89PNG")


def test_a_map_without_servers(tiny_scenario, tiny):
    result = break_even(tiny_scenario(placements=tiny["placements"][:1]))
    assert "nothing to compare" in map_svg(result)
    assert draw_map(result).startswith(b"\x89PNG")


@pytest.mark.parametrize(("low", "high"), [(0.02, 20), (0.3, 1.5), (5000, 20000), (0.9, 1.5)])
def test_ticks_are_round_and_inside(low, high):
    for ticks in (log_ticks(low, high), even_ticks(low, high)):
        assert 1 <= len(ticks) <= 12
        assert all(low <= tick <= high for tick in ticks)
