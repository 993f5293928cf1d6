"""The HTML report in a real headless Chromium: phone and wide screen, light, dark and print, and no network."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil

import numpy as np
import pytest

from carbonpilot.agents.baselines import BatchRule, make_policy
from carbonpilot.agents.benchmark import play
from carbonpilot.agents.html_page import html_page
from carbonpilot.agents.policy_registry import Contestant, contestants, default_policies
from carbonpilot.agents.report_extras import Extras
from carbonpilot.agents.seed_levels import Training
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Episode, Slo

PLAYWRIGHT = "playwright is not installed: pip install 'carbonpilot[dev]'"
sync_api = pytest.importorskip("playwright.sync_api", reason=PLAYWRIGHT)

# CARBONPILOT_CHROMIUM names a browser that is not on the path.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("CARBONPILOT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)

LONG = "an-agent-whose-folder-has-a-rather-long-name-of-many-words"
MAP = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 300" width="900" height="300">'
    '<rect width="900" height="300" fill="#fff"/><text x="20" y="150" fill="#222">map</text></svg>'
)


class Broken(BatchRule):
    name = "broken"

    def reset(self, batch: int) -> None:
        raise ValueError("weights of another network <script>")


def site(slo_ms: float):
    return load_scenario("metro").model_copy(
        update={"episode": Episode(requests=80), "slo": Slo(latency_ms=slo_ms, quantile=0.95)}
    )


def report(slo_ms: float, episodes: int) -> str:
    """A report with everything on it: a group of seeds, a long name, an excluded policy, a bound, a map."""
    scenario = site(slo_ms)
    rules = ("rtt-threshold", "cleanest-zone", "random")
    agents = [Contestant(f"dqn-{i}", "learned", make_policy(rule, scenario)) for i, rule in enumerate(rules)]
    agents += [Contestant(LONG, "learned", make_policy("rtt-threshold", scenario))]
    entries = [
        *contestants(default_policies(scenario), scenario),
        *agents,
        Contestant("broken", "rule", Broken()),
    ]
    found = play(entries, scenario, episodes, 0)
    trainings = {f"dqn-{i}": Training("runs", "dqn", i, "same", f"{i}" * 64) for i in range(3)}
    bound = 0.9 * found["oracle-per-request"].metrics["carbon_mg_per_request"]
    found = dataclasses.replace(found, trainings=trainings, bounds={"oracle-coupled": bound})
    return html_page(found, Extras(conclusion="Offloading can save carbon here: " + "x" * 90, map_svg=MAP))


PAGES = {"usual": (150.0, 20), "infeasible": (12.0, 6), "one tape": (150.0, 1)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, (slo_ms, episodes) in PAGES.items():
        (folder / f"{name}.html").write_text(report(slo_ms, episodes), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser, pages):
    """A function that opens a page and returns it with what it complained about and what it asked for."""
    contexts = []

    def opened(name: str = "usual", width: int = 1600, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
        )
        contexts.append(context)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((pages / f"{name}.html").as_uri(), wait_until="networkidle")
        return page, said, asked

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_it_shows_everything_silently_and_asks_for_nothing(open_page, pages, name):
    page, said, asked = open_page(name)
    assert said == []
    assert asked == [(pages / f"{name}.html").as_uri()]
    text = page.inner_text("body")
    for title in ("Scores", "Placements over time", "Where carbon can be saved", "How this was made"):
        assert title in text
    for title in ("Carbon against misses", "Latency of all requests", "Distance from ", "One tape: number"):
        assert title in text
    for told in ("always-local", "dqn x3 seeds", LONG, "weights of another network <script>", "SHA-256"):
        assert told in text
    assert page.locator("svg[role=img]").count() == 5
    assert (
        page.locator("table tbody tr").count() == len(default_policies(site(PAGES[name][0]))) + 6
    )  # 4 agents, group, broken
    first = page.locator(".word").inner_text()
    assert (first == "Nobody can keep the objective") == (name == "infeasible")


# Everything that sticks out of the page, a box or its picture. What scrolls by itself may be wider than its box.
STICKING_OUT = """() => {
  const found = [], page = document.scrollingElement;
  if (page.scrollWidth > page.clientWidth) found.push(`page ${page.scrollWidth} > ${page.clientWidth}`);
  const scrolls = e => e.closest('.scroll, .map');
  for (const e of document.querySelectorAll('main *:not(svg *)')) {
    if (scrolls(e)) continue;
    const box = e.getBoundingClientRect();
    if (box.right > page.clientWidth + 0.5 || box.left < -0.5) found.push(`${e.tagName} ${e.className} ${box.right}`);
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline' && e.tagName !== 'svg')
      found.push(`${e.tagName} ${e.className}: ${e.scrollWidth} > ${e.clientWidth}`);
  }
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    const out = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < out.left - 1 || box.right > out.right + 1 || box.top < out.top - 2 || box.bottom > out.bottom + 1)
        found.push(`text '${text.textContent}' leaves its picture`);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_overflows(open_page, name, width):
    page, _, _ = open_page(name, width)
    assert page.evaluate(STICKING_OUT) == []


def test_the_check_for_overflow_can_fail(open_page):
    page, _, _ = open_page(width=360)
    page.evaluate(
        "document.querySelector('h2').innerHTML = '<span style=\"white-space:nowrap\">' + 'x '.repeat(200)"
    )
    assert page.evaluate(STICKING_OUT) != []


# Axis texts that lie on each other; the numbers beside the points of a crowded picture may.
OVERLAPS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    const texts = [...svg.querySelectorAll('text.tick, text.axis, text.note')]
      .filter(t => !t.previousElementSibling || !t.previousElementSibling.matches('g'));
    texts.forEach((a, i) => texts.slice(0, i).forEach(b => {
      const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
      const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (across > 1 && down > 3) found.push(`${svg.ariaLabel}: '${a.textContent}' on '${b.textContent}'`);
    }));
  }
  return found;
}"""


@pytest.mark.parametrize("name", PAGES)
def test_no_text_of_an_axis_lies_on_another(open_page, name):
    page, _, _ = open_page(name)
    assert page.evaluate(OVERLAPS) == []


# Lowest contrast of any text against what lies behind it (WCAG 2.1: relative luminance, 1.4.3).
CONTRASTS = """() => {
  const parse = c => { const v = c.match(/[\\d.]+/g).map(Number); return v.length > 3 ? v : [...v, 1]; };
  const even = v => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(even);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { let c = [0, 0, 0, 0];
    for (; e; e = e.parentElement) { const b = parse(getComputedStyle(e).backgroundColor), a = b[3] * (1 - c[3]);
      c = [0, 1, 2].map(i => c[i] + b[i] * a).concat(c[3] + a); }
    const rest = 1 - c[3]; return [0, 1, 2].map(i => c[i] + 255 * rest); };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('title, style, .map')) continue;
    const style = getComputedStyle(e), inside = e instanceof SVGElement;
    const ink = parse(inside ? style.fill : style.color), paper = behind(inside ? e.closest('svg').parentElement : e);
    const [a, b] = [light(ink.slice(0, 3)), light(paper)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_text_stands_out_in_light_and_dark(open_page, name, scheme):
    page, _, _ = open_page(name, scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 200
    assert found[0][0] >= 4.5, found[:3]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (np.mean([int(v) for v in re.findall(r"\d+", paper)]) < 128) == (scheme == "dark")


def test_the_check_for_contrast_can_fail(open_page):
    page, _, _ = open_page()
    page.add_style_tag(content="figcaption { color: #999 !important; }")
    assert page.evaluate(CONTRASTS)[0][0] < 4.5


def test_marks_differ_by_shape_and_areas_by_hatching(open_page):
    page, _, _ = open_page()
    marks = {"learned": "polygon", "rule": "circle", "static": "polygon", "oracle": "polygon"}
    corners = {}
    for kind, element in marks.items():
        shape = page.locator(f"figure svg[role=img] {element}.mark.{kind}").first
        assert shape.count() == 1, kind
        corners[kind] = len((shape.get_attribute("points") or "").split())
    assert len(set(corners.values())) >= 3  # no corners, four, ten; squares and diamonds differ by a turn
    assert page.locator("polygon.hatched").count() > 0
    assert page.evaluate("getComputedStyle(document.querySelector('polygon.hatched')).fill").startswith(
        "url("
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_on_a_few_white_pages(open_page, scheme):
    page, _, _ = open_page("usual", 1600, scheme)
    printed = page.pdf(format="A4", print_background=True)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 5
    page.emulate_media(media="print", color_scheme=scheme)
    page.set_viewport_size({"width": 710, "height": 1000})  # A4 within its margins
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(
        "document.querySelector('table').scrollWidth <= document.querySelector('main').clientWidth"
    )
    assert page.evaluate(STICKING_OUT) == []


def test_tables_scroll_inside_their_box_with_the_names_in_sight(open_page):
    page, _, _ = open_page(width=360)
    box = page.locator(".scroll")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    box.evaluate("e => e.scrollTo(e.scrollWidth, 0)")
    name = page.locator("table tbody th").first.bounding_box()
    assert 0 <= name["x"] < 40
    assert name["width"] < 180
