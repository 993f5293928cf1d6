"""The report of a benchmark: table and verdict on the terminal, JSON, and the files that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..envs.errors import InputError
from ..envs.files import atomic_write_text, check_output_file, write_json
from .benchmark_result import BenchmarkResult
from .html_page import html_page
from .plots import require_matplotlib, write_plots
from .report_extras import Extras
from .report_json import SCHEMA, as_json
from .scoreboard import COLUMNS, NARROW_COLUMNS, Column, heading, rows, time_line
from .verdict import infeasible_sentence, verdict

__all__ = ["SCHEMA", "as_json", "check_outputs", "print_report", "table", "write_report"]


MOST_CHARACTERS = 400  # of a line; the table takes what it needs, and narrower terminals get fewer columns


def table(result: BenchmarkResult, columns: Sequence[Column]) -> Table:
    """The table for a terminal; learned policies stand out."""
    learned = {r.name for r in result.entries if r.kind == "learned"}
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    drawn.add_column("policy", no_wrap=True)
    for column in columns:
        drawn.add_column(column.title, justify="right", no_wrap=True)
    for row in rows(result, columns):
        drawn.add_row(*row, style="bold green" if row[0].removesuffix(" *") in learned else None)
    return drawn


def print_report(result: BenchmarkResult, console: Console, extras: Extras | None = None) -> None:
    """Print heading, table and verdict; into a pipe the lines are as long as they are, whatever the width.

    First comes what changes how all the rest is read: what the break-even says, and that nothing complies.
    """
    piped = not console.is_terminal
    drawn = table(result, COLUMNS)
    needed = Console(width=MOST_CHARACTERS).measure(drawn).maximum
    scores = Console(file=console.file, width=needed) if piped else console
    if scores.width < needed:
        drawn = table(result, NARROW_COLUMNS)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=piped)

    if extras is not None and extras.conclusion:
        say(extras.conclusion)
    if not result.feasible:
        say(infeasible_sentence(result))
    for line in heading(result):
        say(line)
    console.print()
    scores.print(drawn, highlight=False)
    console.print("\n[bold]Verdict[/bold]")
    for sentence in verdict(result):
        say(f"- {sentence}")
    say(time_line(result))


def check_outputs(
    json_file: str | Path | None, html_file: str | Path | None, plots_dir: str | Path | None
) -> None:
    """Find out before the work starts whether its results can be written.

    Raises:
        InputError: a file cannot be written there, or its folder does not exist.
        MissingExtraError: pictures were asked for and matplotlib is not installed.
    """
    for file in (json_file, html_file):
        if file is not None:
            if not Path(file).absolute().parent.is_dir():
                raise InputError(
                    f"Cannot write {file}: the folder {Path(file).parent} does not exist. Create it first."
                )
            check_output_file(file)
    if plots_dir is not None:
        check_output_file(Path(plots_dir) / "latency_cdf.png")
        require_matplotlib()


def write_report(
    result: BenchmarkResult,
    json_file: str | Path | None = None,
    html_file: str | Path | None = None,
    plots_dir: str | Path | None = None,
    extras: Extras | None = None,
) -> list[Path]:
    """Write what was asked for and return the paths; JSON first, so that it is safe if drawing fails."""
    written: list[Path] = []
    if json_file is not None:
        write_json(json_file, as_json(result, extras))
        written.append(Path(json_file))
    if plots_dir is not None:
        written += write_plots(result, plots_dir)
    if html_file is not None:
        atomic_write_text(html_file, html_page(result, extras or Extras()))
        written.append(Path(html_file))
    return written
