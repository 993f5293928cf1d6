"""A table of what each stage of teaching added, from the ``stages.json`` of one or several runs.

    python -m carbonpilot.agents.teach.table RUN_DIR ...

Several runs are the seeds of one recipe: numbers are their means, with the lowest and the highest beside them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError, InputError
from .stage_book import FILE, SCHEMA

HEAD = ("after", "mg a request", "SLO met", "missed", "requests simulated", "seconds")


def stage_table(runs: Sequence[str | Path]) -> str:
    """Markdown, one line for each stage; references first.

    Raises:
        InputError: a folder has no book of stages, or the runs went through other stages.
    """
    books = [_book(Path(run)) for run in runs]
    names = [_names(book) for book in books]
    if any(other != names[0] for other in names[1:]):
        raise InputError(f"These runs went through different stages: {' / '.join(map(str, names))}.")
    lines = [_line(HEAD), _line(["---"] + ["---:"] * (len(HEAD) - 1))]
    lines += [_row(name, [book["references"][name] for book in books]) for name in books[0]["references"]]
    for i, name in enumerate(names[0]):
        lines.append(_row(name, [book["stages"][i] for book in books]))
    return "\n".join(lines)


def _book(run: Path) -> dict[str, Any]:
    file = run / FILE
    if not file.is_file():
        raise InputError(
            f"{run} has no {FILE}. Expected the folder of a training with `teacher` in its settings."
        )
    book = json.loads(file.read_text())
    if book.get("schema") != SCHEMA:
        raise InputError(f"{file}: expected schema {SCHEMA}, got {book.get('schema')}.")
    return book


def _names(book: Mapping[str, Any]) -> list[str]:
    return [row["name"] for row in book["stages"]]


def _row(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    carbon = _spread([row["carbon_mg_per_request"] for row in rows], "{:.3f}")
    met = _spread([100 * row["episodes_meeting_slo"] for row in rows], "{:.1f}")
    missed = _spread([100 * row["slo_miss_rate"] for row in rows], "{:.1f}")
    requests = [row.get("requests") for row in rows]
    seconds = [row.get("seconds") for row in rows]
    effort = "" if not all(requests) else f"{_mean(requests) / 1e6:.2f} M"
    took = "" if not all(seconds) else f"{_mean(seconds):.0f}"
    return _line([name, carbon, f"{met} %", f"{missed} %", effort, took])


def _spread(values: Sequence[float], form: str) -> str:
    mean = form.format(_mean(values))
    if len(values) == 1:
        return mean
    return f"{mean} [{form.format(min(values))}, {form.format(max(values))}]"


def _mean(values: Sequence[Any]) -> float:
    return sum(values) / len(values)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Print the table; 2 where the call is wrong."""
    try:
        if not arguments:
            raise InputError("Expected run folders: python -m carbonpilot.agents.teach.table RUN_DIR ...")
        print(stage_table(arguments))
    except CarbonPilotError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
