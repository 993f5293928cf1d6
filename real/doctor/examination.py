"""Everything that the doctor looks at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..site_file import SiteFile
from . import hardware, network, software
from .finding import Finding, looked_at
from .site_checks import site_findings


def examine(
    site: SiteFile | None = None,
    site_path: Path | None = None,
    logs: Path = Path("runs/log"),
    root: Path | str = "/",
) -> list[Finding]:
    """Look at the machine, and at a site if there is one.

    Args:
        site, site_path: a loaded site file and where it is.
        logs: folder that a run would log to.
        root: where sys and proc lie; another folder for a fake tree.
    """
    root = Path(root)
    wanted = None if site is None else list(site.deployment.meters)
    found = [
        *_all(software.GROUP, "software", lambda: software.software(site is not None)),
        *_all(hardware.GROUP, "meters", lambda: hardware.meters(root, wanted)),
        looked_at(hardware.GROUP, "temperature", lambda: hardware.temperature(root)),
        looked_at(hardware.GROUP, "cpu clock", lambda: hardware.clocks(root)),
        looked_at(hardware.GROUP, "power mode", hardware.power_mode),
        looked_at(hardware.GROUP, "calendar clock", hardware.clock_synchronised),
        looked_at(network.GROUP, "congestion control", lambda: network.congestion(root)),
        looked_at(network.GROUP, "idle restart", lambda: network.idle_restart(root)),
        looked_at(network.GROUP, "own transfers", network.acknowledgements),
        *_all(network.BED, "test bed", network.test_bed),
    ]
    if site is not None and site_path is not None:
        found += site_findings(site, site_path, logs)
    return found


def _all(group: str, name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Several findings at once, or one that says why there are none."""
    found: list[Finding] = []

    def first() -> Finding:
        found.extend(look())
        return Finding(group, name, "ok", "")

    problem = looked_at(group, name, first)
    return found if problem.state == "ok" else [*found, problem]


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing that is needed fails."""
    return all(f.state != "failed" for f in findings)
