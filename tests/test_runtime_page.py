"""The status page of a run in a real headless Chromium: what it shows, phone and wide screen, without network."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from runtime_fixture import Lab, frame, options, quick_site

PLAYWRIGHT = "playwright is not installed: pip install 'carbonpilot[dev]'"
sync_api = pytest.importorskip("playwright.sync_api", reason=PLAYWRIGHT)

from test_report_browser import ARGUMENTS, CHROMIUM, CONTRASTS, STICKING_OUT  # noqa: E402

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)

NASTY = "<img src=x onerror=alert(1)>.jpg"


class Background:
    """A run in a thread of its own: some good frames, one on the device, one that is no image, one that is late."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.ready = lab, threading.Event()
        self.ending: asyncio.Event | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self.live()))

    async def live(self) -> None:
        self.ending, self.loop = asyncio.Event(), asyncio.get_running_loop()
        async with self.lab as lab:
            await lab.play(25, gap_s=0.03)
            lab.run.engine.offer(replace(frame(25, "not an image"), name=NASTY))
            lab.executor("edge-b0")._service_s = [0.2]
            lab._next = 26
            await lab.play(1, gap_s=0.5)
            lab.executor("edge-b0").failing = "unreachable"
            await lab.play(6, gap_s=0.03)
            self.address = lab.run.address
            await asyncio.sleep(1.1)
            self.ready.set()
            await self.ending.wait()

    def __enter__(self) -> Background:
        self.thread.start()
        assert self.ready.wait(60)
        return self

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.ending.set)
            self.thread.join(30)

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import copy

    from conftest import TINY

    folder = tmp_path_factory.mktemp("page")
    site = quick_site(folder, copy.deepcopy(TINY))
    with Background(Lab(options(site, folder / "log", listen="127.0.0.1:0", fallback="never"))) as background:
        yield background


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser, run):
    """A function that opens the page once it shows the run, with what it said and asked for."""
    contexts = []

    def opened(width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(run.address)
        page.wait_for_selector("#state.good")
        return page, said, asked

    yield opened
    for context in contexts:
        context.close()


def test_it_shows_the_run_and_asks_nobody_else(open_page, run):
    page, said, asked = open_page()
    if folder := os.environ.get("CARBONPILOT_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/status.png", full_page=True)
    page.wait_for_timeout(2600)  # it asks again
    assert said == []
    assert set(asked) == {run.address, run.address + "status.json"}
    assert asked.count(run.address + "status.json") >= 2
    text = page.inner_text("body")
    for told in (
        *("CarbonPilot at tiny", "active mode", "always-edge-b0", "saved against always-local", "country-default"),
        *("saved against always-offload", "Nobody can know", "missed", "bad-image", "not an image", "unreachable"),
        *("uplink", "home", "662", "full speed", "own work per frame"),
    ):  # fmt: skip
        assert told in text, told
    assert page.locator("#decisions tbody tr").count() == 15
    assert page.locator("#chart .dot").count() == 33
    assert page.locator("#chart .dot.none").count() >= 1
    assert page.locator("#chart .slo").count() == 1
    assert "objective 150 ms" in page.locator("#chart").text_content()
    assert "saves" not in text
    assert page.title().endswith("tiny - CarbonPilot")


def test_names_from_outside_are_text_and_nothing_else(open_page, run):
    run.lab.run.status._recent[-1] = replace(run.lab.run.status._recent[-1], problem=NASTY, reason=NASTY)
    page, said, asked = open_page()
    assert NASTY in page.inner_text("#decisions")
    assert page.locator("#decisions img").count() == 0
    assert said == []
    assert not any(url.endswith("/x") for url in asked)


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_overflows(open_page, width):
    page, _, _ = open_page(width)
    assert page.evaluate(STICKING_OUT) == []
    letters = page.evaluate("document.querySelector('#chart text').getBoundingClientRect().height")
    assert letters >= 11  # they do not shrink with the screen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(open_page, scheme):
    page, _, _ = open_page(scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert found[0][0] >= 4.5, found[:3]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    values = [int(v) for v in paper.strip("rgb()").split(",")]
    assert (np.mean(values) < 128) == (scheme == "dark")


def test_tables_are_reached_by_keyboard_and_named(open_page):
    page, _, _ = open_page(360)
    for box in page.locator(".scroll").all():
        assert box.get_attribute("tabindex") == "0"
        assert box.get_attribute("aria-label")
    assert page.locator("#state").get_attribute("role") == "status"
    assert page.locator("main h1").count() == 1


def test_it_says_when_the_run_answers_no_more(open_page, run):
    """The last test: it ends the run."""
    page, _, _ = open_page()
    run.stop()
    page.wait_for_selector("#state.bad", timeout=15_000)
    assert "what is shown is old" in page.inner_text("#state")
    assert page.locator("#decisions tbody tr").count() == 15
