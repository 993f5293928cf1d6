"""`carbonpilot traces check` and `carbonpilot traces summary`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import InputError
from .checks import check_file
from .defects import Defect
from .folder import trace_folder
from .summary import summarise

DONE, CHECK_SAYS_NO, WRONG_INPUT = 0, 1, 2  # exit codes of the command line

_COLOUR = {"error": "bold red", "warning": "yellow"}


def check_command(files: Sequence[str | Path]) -> int:
    """Show what is wrong with trace files; a folder stands for the traces in it.

    Returns:
        0 without errors (warnings allowed), 1 where a file has errors, 2 where one is missing or unreadable.
    """
    console = Console(highlight=False)
    paths, worst = _expand(files)
    for path in paths:
        try:
            defects = check_file(path)
        except InputError as err:
            worst = _complain(err)
            continue
        if any(d.severity == "error" for d in defects):
            worst = max(worst, CHECK_SAYS_NO)
        _show_defects(console, path, defects)
    return worst


def summary_command(files: Sequence[str | Path], json: str | Path | None = None) -> int:
    """Show trace files in numbers; a folder stands for the traces in it.

    Args:
        files: files and folders.
        json: also write everything to this file.

    Returns:
        0 when all were summarised, 2 where one is broken, missing or unreadable (the others are still shown).
    """
    console = Console(highlight=False)
    summaries: list[dict[str, Any]] = []
    paths, worst = _expand(files)
    for path in paths:
        try:
            summaries.append(summarise(path))
        except InputError as err:
            worst = _complain(err)
    for summary in summaries:
        _show_summary(console, summary)
    if json is not None:
        _write(json, summaries)
    return worst


def _expand(files: Sequence[str | Path]) -> tuple[list[Path], int]:
    """Files, with each folder replaced by the traces in it, and the exit code so far."""
    out: list[Path] = []
    code = DONE
    for path in map(Path, files):
        if not path.is_dir():
            out.append(path)
            continue
        try:
            out += [p for found in trace_folder(path).values() for p in found]
        except InputError as err:
            code = _complain(err)
    return out, code


def _complain(err: InputError) -> int:
    print(f"Error: {err}", file=sys.stderr)
    return WRONG_INPUT


def _show_defects(console: Console, path: Path, defects: list[Defect]) -> None:
    errors = sum(d.severity == "error" for d in defects)
    verdict = "ok" if not defects else f"{errors} errors, {len(defects) - errors} warnings"
    if not console.is_terminal:
        print(f"{path}: {verdict}", *map(str, defects), sep="\n")
        return
    console.print(Text(f"{path}: {verdict}", style="red" if errors else "green"))
    if not defects:
        return
    table = Table("", "line", "column", "what")
    for d in defects:
        severity = Text(d.severity, style=_COLOUR[d.severity])
        table.add_row(severity, str(d.line), Text(d.column or ""), Text(d.message))
    console.print(table)


def _show_summary(console: Console, summary: dict[str, Any]) -> None:
    facts = ", ".join(_facts(summary))
    rows = [
        (name, c["unit"], *(f"{c[k]:.6g}" for k in ("min", "median", "p95", "max")), f"{c['empty']:.1%}")
        for name, c in summary["columns"].items()
    ]
    head = ("column", "unit", "min", "median", "p95", "max", "empty")
    if not console.is_terminal:
        print(f"{summary['file']}: {facts}")
        for row in (head, *rows):
            print(
                "  "
                + "".join(f"{cell:<20}" if i == 0 else f"{cell:>10}" for i, cell in enumerate(row)).rstrip()
            )
        return
    table = Table(*head, title=f"{summary['file']}: {facts}", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _facts(summary: dict[str, Any]) -> Iterable[str]:
    yield summary["form"]
    if summary["zone"]:
        yield f"zone {summary['zone']}"
    yield f"{summary['rows']} rows"
    if summary["start"]:
        yield f"from {summary['start']}"
    yield f"span {summary['span_s']:.6g} s"
    if summary["step_s"] is not None:
        yield f"step {summary['step_s']:g} s, {summary['gaps']} gaps"
    if summary["segments"] is not None:
        yield f"{summary['segments']} segments"
    for share in ("estimated", "outage", "stall"):
        if summary[f"{share}_share"] is not None:
            yield f"{share} {summary[f'{share}_share']:.2%}"


def _write(json: str | Path, summaries: list[dict[str, Any]]) -> None:
    from ... import __version__
    from ..files import write_json

    write_json(
        json, {"schema": "carbonpilot/traces/1", "carbonpilot_version": __version__, "files": summaries}
    )
