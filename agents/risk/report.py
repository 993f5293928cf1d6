"""The calibration of the risk heads that a benchmark's policies have, for its report."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...envs.observation import build_table
from ...envs.schema import Scenario
from .. import shipped
from .folder import CARD_FILE, is_risk_folder, read_risk
from .policy import NAME, is_shipped, shipped_folder

_IN_RUN = "risk"  # folder of a run that holds the head its policy is laid over


def calibrations(names: Iterable[str], scenario: Scenario) -> dict[str, dict[str, Any]]:
    """The calibration of each policy that has a risk head, and of what is shipped: `learned-risk`, `pretrained`.

    Args:
        names: policies as they were asked for: names, folders of runs, bundles or risk heads.
        scenario: the site.

    Returns:
        Policy -> placement -> reliability curve. Policies without a risk head are left out, and so are folders that
        cannot be read: playing them says what is wrong with them.
    """
    folders = {Path(name.removesuffix("+shield")) for name in names}
    found = {folder.name: _of_folder(folder) for folder in sorted(folders)}
    if is_shipped(scenario) and (folder := shipped_folder(scenario)) is not None:
        found[NAME] = read_risk(folder).card.calibration
    if (
        shipped.is_shipped(scenario, build_table(scenario))
        and (folder := shipped.shipped_folder(scenario)) is not None
    ):
        found[shipped.NAME] = _of_folder(folder)
    return {name: calibration for name, calibration in found.items() if _is_calibration(calibration)}


def _of_folder(folder: Path) -> Any:
    if is_risk_folder(folder):
        return _json(folder / CARD_FILE).get("calibration")
    if is_risk_folder(folder / _IN_RUN):
        return _json(folder / _IN_RUN / CARD_FILE).get("calibration")
    risk = _json(folder / "card.json").get("risk") or {}
    return (risk.get("made") or {}).get("calibration")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_calibration(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and bool(found)
        and all(isinstance(curve, dict) and "bins" in curve for curve in found.values())
    )
