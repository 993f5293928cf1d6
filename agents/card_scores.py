"""Writes what a benchmark found into the cards of the bundles that played in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..envs.errors import InputError
from ..envs.schema import Scenario
from . import shipped
from .benchmark import BenchmarkResult
from .bundle import CARD_FILE
from .bundle_writer import add_scores
from .provenance import command_line
from .report import as_json

# Of the benchmark's JSON: what makes a score repeatable.
_ABOUT = (
    "carbonpilot_version",
    "scenario_sha256",
    "seed",
    "part",
    "episodes",
    "account",
    "oracle",
    "reference",
)


def bundles(policies: Sequence[str], scenario: Scenario | None = None) -> list[Path]:
    """The bundle folders among the given policies.

    Args:
        policies: as they were asked for.
        scenario: the site; `pretrained` is the folder of the bundle that is shipped for it.

    Raises:
        InputError: none is one.
    """
    shipped_here = None if scenario is None else shipped.shipped_folder(scenario)
    named = {shipped.NAME: shipped_here} if shipped_here is not None else {}
    folders = [named.get(given, Path(given)) for given in policies]
    found = list(dict.fromkeys(folder for folder in folders if (folder / CARD_FILE).is_file()))
    if not found:
        raise InputError(
            "--update-cards writes scores into bundles, and none of the policies is one. "
            "Make one with `carbonpilot export RUN_DIR --out BUNDLE_DIR` and give its folder."
        )
    return found


def write_scores(result: BenchmarkResult, folders: Sequence[Path]) -> list[Path]:
    """Write each bundle's scores into its card, under the scenario's name; return the cards.

    Args:
        result: the benchmark in which the bundles played.
        folders: the bundle folders, as they were given to it.
    """
    content = as_json(result)
    about = {key: content[key] for key in _ABOUT}
    names = {r.name for r in result.results}
    written = []
    for folder in folders:
        # A bundle goes by its folder's name, or by its whole path where two have the same; the shipped one by its own.
        own = [shipped.NAME] if folder.absolute() == shipped.shipped_folder(result.scenario) else []
        name = next((n for n in (*own, str(folder), folder.absolute().name) if n in names), None)
        if name is None:  # excluded from the benchmark: it has no scores
            continue
        scores: dict[str, Any] = {**about, **content["policies"][name], "command": command_line()}
        add_scores(folder, {result.scenario.name: scores})
        written.append(folder / CARD_FILE)
    return written
