"""Writes what a benchmark found into the cards of the bundles that played in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..envs.errors import InputError
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


def bundles(policies: Sequence[str]) -> list[Path]:
    """Those of the given policies that are bundle folders.

    Raises:
        InputError: none is.
    """
    found = [Path(given) for given in policies if (Path(given) / CARD_FILE).is_file()]
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
        # A bundle goes by its folder's name, or by its whole path where two have the same.
        name = str(folder) if str(folder) in names else folder.absolute().name
        if name not in names:  # excluded from the benchmark: it has no scores
            continue
        scores: dict[str, Any] = {**about, **content["policies"][name], "command": command_line()}
        add_scores(folder, {result.scenario.name: scores})
        written.append(folder / CARD_FILE)
    return written
