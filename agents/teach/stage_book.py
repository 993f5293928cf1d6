"""What each stage of a training added, kept in the run folder: ``stages.json`` and the taught models.

    stages.json           what was measured after every stage, on the same training tapes, and which model is handed out
    stages/NN-NAME.zip    the model after a stage of teaching; a run that was stopped goes on from the last

The scores are those of the deterministic policy on training tapes that nothing was learned from. They are for comparing
stages with each other; the benchmark compares policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...envs.files import atomic_path, write_json
from ..run_dir import RunDir

SCHEMA = "carbonpilot/stages/1"
FILE, FOLDER = "stages.json", "stages"
RL = "rl"  # name of the stage after the teaching
_TOLD = (
    "name",
    "requests",
    "seconds",
    "updates",
    "carbon_mg_per_request",
    "slo_miss_rate",
    "episodes_meeting_slo",
)


class StageBook:
    """Reads and writes the record of a run's stages.

    Attributes:
        rows: one mapping for each finished stage, oldest first.
    """

    def __init__(self, run: RunDir, head: Mapping[str, Any]) -> None:
        """Open the book of a run, or start one.

        Args:
            run: the run's folder.
            head: what a new book says about the run.
        """
        self._run = run
        self._content = run.read_json(FILE) or {"schema": SCHEMA, **head, "references": {}, "stages": []}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """See the class."""
        return self._content["stages"]

    @property
    def references(self) -> dict[str, Any]:
        """Scores of policies that were there before, by name."""
        return self._content["references"]

    def model_file(self, number: int, name: str) -> Path:
        """Where the model after a stage lies."""
        return self._run.path / FOLDER / f"{number:02d}-{name}.zip"

    def refer(self, name: str, scores: Mapping[str, Any]) -> None:
        """Keep the scores of a policy that was there before."""
        self.references[name] = dict(scores)
        self._write()

    def add(self, row: Mapping[str, Any], model: Any | None = None) -> None:
        """Add a finished stage, or replace the one of the same name; its model is there before the row is.

        Args:
            row: with its "name".
            model: SB3 model to keep; None where the run folder has it already.
        """
        known = [i for i, old in enumerate(self.rows) if old["name"] == row["name"]]
        number = known[0] if known else len(self.rows)
        if model is not None:
            with atomic_path(self.model_file(number, row["name"])) as temporary:
                model.save(temporary)
        self.rows[number : number + 1] = [_finite(row)]
        self._write()

    def hand_out(self, name: str) -> None:
        """Note whose model is the run's final one."""
        self._content["handed_out"] = name
        self._write()

    def _write(self) -> None:
        write_json(self._run.path / FILE, self._content)


def stages_record(run: RunDir) -> dict[str, Any] | None:
    """What the card of a bundle says of the stages of a run; None where there was no teacher."""
    book = run.read_json(FILE)
    if book is None:
        return None
    rows = [{key: row.get(key) for key in _TOLD} for row in book["stages"]]
    return {"handed_out": book.get("handed_out"), "scored_on": book["scored_on"], "stages": rows}


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: None stands where a number does not exist."""
    plain = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            plain[key] = _finite(value)
        else:
            plain[key] = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain
