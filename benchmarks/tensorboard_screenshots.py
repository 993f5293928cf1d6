"""Pictures of TensorBoard for docs/tensorboard.md: its own pages in a headless Chromium, on this machine only.

python benchmarks/tensorboard_screenshots.py RUNS_DIR docs/images

RUNS_DIR holds finished runs, for example of ``carbonpilot sweep run --scenario metro --algo ppo --algo dqn
--seeds 0 --steps 250000 --out sweep`` its folder ``sweep/runs``.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Page of TensorBoard -> its address, and the size of the window.
PAGES = {
    "charts": ("custom_scalars", 1330, 2860),
    "pictures": ("images", 1330, 560),
    "settings": ("hparams", 2100, 420),
}
START_S, DRAW_MS = 120, 8000


@contextlib.contextmanager
def tensorboard(runs: Path) -> Iterator[str]:
    """Serve a folder on the loopback address; yields the server's address."""
    program = [sys.executable, "-m", "tensorboard.main"]
    words = [*program, "--logdir", str(runs), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        if found:
            return found[0]
    raise SystemExit("TensorBoard did not start")


def picture(page: Page, address: str, tab: str, file: Path) -> None:
    """One page of TensorBoard as a PNG, without the path of the folder on this machine."""
    page.goto(f"{address}?darkMode=false#{tab}", wait_until="networkidle")
    page.wait_for_timeout(DRAW_MS)
    for place in page.locator("#data-location").all():
        place.evaluate("element => element.remove()")
    page.screenshot(path=str(file))
    print(f"wrote {file}")


def main() -> None:
    """Take every picture."""
    runs, out = Path(sys.argv[1]), Path(sys.argv[2])
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no Chromium on this machine: apt-get install chromium")
    with tensorboard(runs) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for name, (tab, width, height) in PAGES.items():
            page = chromium.new_page(viewport={"width": width, "height": height})
            picture(page, address, tab, out / f"tensorboard-{name}.png")
            page.close()
        chromium.close()


if __name__ == "__main__":
    main()
