"""Writes the site file and says what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ...envs.files import atomic_write_text
from ...envs.scenario import scenario_dict
from ..site_file import SiteFile, load_site
from .ledger import GIVEN

if TYPE_CHECKING:
    from .calibration import Calibration

_HEAD = "# Written by `carbonpilot calibrate`: docs/calibrate.md. Where each number comes from: provenance.numbers.\n"


def site_yaml(site: SiteFile) -> str:
    """The file's text."""
    content: dict[str, Any] = {
        "schema": site.schema_version,
        "scenario": scenario_dict(site.scenario),
        "deployment": site.deployment.model_dump(mode="json", exclude_none=True),
        "provenance": site.provenance.model_dump(mode="json", exclude_none=True),
    }
    return _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def write_site(path: Path, site: SiteFile) -> None:
    """Write the file whole, and read it back."""
    atomic_write_text(path, site_yaml(site))
    load_site(path)


def report(found: Calibration) -> list[str]:
    """What was measured, what was assumed, what to know."""
    numbers = found.site.provenance.numbers
    lines = []
    fresh = {key: n for key, n in numbers.items() if n.measured_utc is None}
    for key, n in fresh.items():
        if n.kind == "measured":
            lines.append(
                f"measured {key} = {n.value:.4g} [{n.low:.4g}, {n.high:.4g}], n {n.count}: {n.method}"
            )
        elif n.kind == "derived":
            lines.append(f"derived  {key} = {n.value:.4g}: {n.method}")
    given = [f"{key} = {n.value:g}" for key, n in fresh.items() if n.method == GIVEN]
    if given:
        lines.append(f"assumed as given: {', '.join(given)}")
    if kept := len(numbers) - len(fresh):
        lines.append(f"{kept} other numbers are kept from earlier, each with its date in provenance.numbers.")
    if rest := sum(n.kind == "assumed" for n in fresh.values()) - len(given):
        lines.append(
            f"{rest} other numbers are the base scenario's, marked as assumed in provenance.numbers."
        )
    return [*lines, *found.notes]
