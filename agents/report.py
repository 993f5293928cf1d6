"""The report of a benchmark: table and verdict on the terminal, JSON, and the files that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .. import __version__
from ..envs.errors import InputError
from ..envs.files import atomic_write_text, check_output_file, write_json
from ..envs.scenario import scenario_sha256
from .benchmark import COMPLIANT_SHARE, BenchmarkResult, PolicyResult
from .html_page import html_page
from .plots import require_matplotlib, write_plots
from .scoreboard import COLUMNS, NARROW_COLUMNS, Column, heading, rows
from .verdict import comparisons, verdict

SCHEMA = "carbonpilot/benchmark/1"
TABLE_WIDTH = 128  # characters that all columns need; narrower terminals get fewer columns


def as_json(result: BenchmarkResult) -> dict[str, Any]:
    """The result under the keys of the JSON contract (DESIGN.md), with what is needed to repeat it."""
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": result.scenario.name,
        "scenario_sha256": scenario_sha256(result.scenario),
        "seed": result.seed,
        "part": result.part,
        "episodes": result.episodes,
        "account": result.scenario.account,
        "compliant_share": COMPLIANT_SHARE,
        "reference": result.reference.name,
        "oracle": result.oracle.name,
        "policies": {r.name: _policy_json(result, r) for r in result.results},
        "comparisons": [c.as_json() for c in comparisons(result)],
        "verdict": verdict(result),
    }


def _policy_json(result: BenchmarkResult, policy: PolicyResult) -> dict[str, Any]:
    estimates = {name: estimate.as_json() for name, estimate in result.estimates[policy.name].items()}
    names = [p.name for p in result.scenario.placements]
    shares = policy.shares.mean(axis=1)
    accounts = {
        name: result.bootstrap.mean(policy.metrics[name]).as_json()
        for name in ("carbon_mg_marginal_per_request", "carbon_mg_attributional_per_request")
    }
    return {
        **estimates,
        "placement_share": {name: float(share) for name, share in zip(names, shares, strict=True)},
        "kind": policy.kind,
        "complies": policy.complies,
        "requests": policy.requests,
        **accounts,
    }


def table(result: BenchmarkResult, columns: Sequence[Column]) -> Table:
    """The table for a terminal; learned policies stand out."""
    learned = {r.name for r in result.results if r.kind == "learned"}
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    drawn.add_column("policy", no_wrap=True)
    for column in columns:
        drawn.add_column(column.title, justify="right", no_wrap=True)
    for row in rows(result, columns):
        drawn.add_row(*row, style="bold green" if row[0].removesuffix(" *") in learned else None)
    return drawn


def print_report(result: BenchmarkResult, console: Console) -> None:
    """Print heading, table and verdict; into a pipe the lines are as long as they are, whatever the width."""
    piped = not console.is_terminal
    scores = Console(file=console.file, width=TABLE_WIDTH) if piped else console
    columns = COLUMNS if scores.width >= TABLE_WIDTH else NARROW_COLUMNS
    for line in heading(result):
        console.print(line, highlight=False, markup=False, soft_wrap=piped)
    console.print()
    scores.print(table(result, columns), highlight=False)
    console.print("\n[bold]Verdict[/bold]")
    for sentence in verdict(result):
        console.print(f"- {sentence}", highlight=False, markup=False, soft_wrap=piped)


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
    if plots_dir is not None or html_file is not None:
        require_matplotlib()


def write_report(
    result: BenchmarkResult,
    json_file: str | Path | None = None,
    html_file: str | Path | None = None,
    plots_dir: str | Path | None = None,
) -> list[Path]:
    """Write what was asked for and return the paths; JSON first, so that it is safe if drawing fails."""
    written: list[Path] = []
    if json_file is not None:
        write_json(json_file, as_json(result))
        written.append(Path(json_file))
    if plots_dir is not None:
        written += write_plots(result, plots_dir)
    if html_file is not None:
        atomic_write_text(html_file, html_page(result))
        written.append(Path(html_file))
    return written
