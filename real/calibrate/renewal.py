"""Measuring a part of a site again: what a site file holds is kept, with its date, where nothing new is measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...envs.errors import InputError, unknown_name
from ..site_file import SiteFile, file_sha256, load_site
from .job import PARTS, Part, Wanted
from .machine import differences, this_machine


def renewed(
    path: Path,
    out: Path,
    parts: Collection[Part],
    assumptions: Mapping[str, Any],
    images: str,
    condition: str | None = None,
    keep_links: bool = False,
) -> Wanted:
    """What to measure of a site that was calibrated before.

    Args:
        path: its site file.
        out: the one to write, in the same folder.
        parts: what to measure again.
        assumptions: dotted key -> value.
        images: what the frames are, for the provenance.
        condition, keep_links: see `Wanted`.

    Raises:
        InputError: the file belongs to another machine, or its model is another file now; or ``out`` is elsewhere.
        ScenarioError: the site file is broken.
    """
    site = load_site(path)
    _check_device(site, path)
    if out.resolve().parent != path.resolve().parent:
        raise InputError(
            f"--out {out}: paths in {path} are relative to its folder, so the renewed file has to stand there too: "
            f"--out {path.parent / out.name}, or the same file again."
        )
    date = site.provenance.measured_utc
    kept = {
        key: n if n.measured_utc else n.model_copy(update={"measured_utc": date})
        for key, n in site.provenance.numbers.items()
    }
    return Wanted(
        base=site.scenario,
        base_name=str(path),
        deployment=site.deployment,
        folder=path.resolve().parent,
        assumptions=assumptions,
        condition=condition,
        keep_links=keep_links,
        images=images,
        parts=frozenset(parts),
        kept=kept,
    )


def parse_parts(given: Collection[str]) -> list[Part]:
    """Names of ``--part``.

    Raises:
        InputError: none is given, or one is unknown.
    """
    if not given:
        raise InputError(f"--renew needs --part, what to measure again: {', '.join(PARTS)}. Repeatable.")
    for name in given:
        if name not in PARTS:
            raise unknown_name("--part", name, PARTS)
    return [part for part in PARTS if part in given]


def parts_of(keys: Iterable[str]) -> list[Part]:
    """The parts that measure these numbers of a site, by dotted key."""
    parts = {_part_of(key) for key in keys}
    return [part for part in PARTS if part in parts]


def _part_of(key: str) -> Part:
    if key.startswith("links."):
        return "links"
    return "device" if key.startswith(("device.", "placements.0.")) or ".split." in key else "nodes"


def _check_device(site: SiteFile, path: Path) -> None:
    """Refuse to mix numbers of two devices or of two models."""
    other = differences(site.deployment.machine, this_machine())
    if other:
        raise InputError(
            f"{path} was measured on another device ({site.deployment.machine.hostname}): {'; '.join(other)}. A part "
            "of it cannot be measured here: calibrate this device with --base and --deployment."
        )
    model = path.resolve().parent / site.deployment.local.file
    if not model.is_file() or file_sha256(model) != site.deployment.local.sha256:
        raise InputError(
            f"{model}: {'another file than' if model.is_file() else 'missing, and it is'} the model that {path} was "
            "calibrated with. Put that one back, or calibrate with --base and --deployment."
        )
