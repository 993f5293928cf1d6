"""The cells of a reproduced paper as a table: on a terminal, and as Markdown for the docs/reproduce-*.md pages.

``python -m carbonpilot.agents.paper_table CELLS.json`` prints the Markdown of what
``carbonpilot reproduce PAPER --json CELLS.json`` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .paper_cells import Cell

TABLE_WIDTH = 150  # columns that the table needs; narrower terminals wrap it
HEADINGS = ("table", "row", "column", "unit", "paper", "ours", "error", "kind", "note")
NUMBERS = ("paper", "ours", "error", "note")  # aligned to the right


def rows(cells: list[Cell]) -> tuple[list[list[str]], list[str]]:
    """The cells as text, and the notes that their last column numbers from 1."""
    notes = list(dict.fromkeys(c.note for c in cells if c.note))
    lines = []
    for c in cells:
        mark = str(notes.index(c.note) + 1) if c.note else ""
        kind = c.kind.replace("_", " ")
        lines.append([c.table, c.row, c.column, c.unit, *_numbers(c), kind, mark])
    return lines, notes


def show(cells: list[Cell], title: str, console: Console) -> None:
    """Print the table and the notes under it, each once."""
    lines, notes = rows(cells)
    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in NUMBERS else "left")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for number, note in enumerate(notes, start=1):
        console.print(f"{number:2d}  {note}", highlight=False, markup=False)


def markdown(cells: list[Cell]) -> str:
    """The same as Markdown."""
    lines, notes = rows(cells)
    rule = ["---:" if heading in NUMBERS else "---" for heading in HEADINGS]
    text = ["| " + " | ".join(line) + " |" for line in (list(HEADINGS), rule, *lines)]
    text += ["", *(f"{number}. {note}" for number, note in enumerate(notes, start=1))]
    return "\n".join(text) + "\n"


def _numbers(c: Cell) -> tuple[str, str, str]:
    """Paper, ours and error as text."""
    paper = "-" if c.paper is None else f"{c.paper:g}"
    if c.ours is None:
        return paper, "-", "-"
    ours = f"{c.ours:.4g}" if c.ours < 1000 else f"{c.ours:.0f}"
    if c.relative_error is None:
        return paper, ours if c.paper is None else "-", "-"
    percent = round(100 * c.relative_error, 1) + 0.0  # no minus before zero
    return paper, ours, f"{percent:+.1f} %"


if __name__ == "__main__":
    print(markdown([Cell(**c) for c in json.loads(Path(sys.argv[1]).read_text())["cells"]]), end="")
