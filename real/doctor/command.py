"""`carbonpilot doctor`: what is here, and how to mend what is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .finding import Finding

SCHEMA = "carbonpilot/doctor/1"
_MARKS = {
    "ok": "[green]ok     [/green]",
    "missing": "[yellow]missing[/yellow]",
    "failed": "[red]FAILED [/red]",
}


def doctor(
    site: Annotated[
        Path | None, typer.Option(metavar="SITE.yaml", help="Also look at everything that this site needs.")
    ] = None,
    log: Annotated[Path, typer.Option(metavar="DIR", help="Folder that a run logs to.")] = Path("runs/log"),
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Say what this machine can measure and reach, and how to mend what is missing.

    Ends with 1 if something that is needed fails; what only some commands need is listed as missing.

    Example: carbonpilot doctor --site site.yaml
    """
    import json

    from ...envs.errors import CarbonPilotError
    from ..site_file import load_site
    from .examination import examine, healthy
    from .finding import Finding

    loaded, problem = None, None
    if site is not None:
        try:
            loaded = load_site(site)
        except CarbonPilotError as error:  # the rest is looked at all the same
            problem = Finding(
                "site", "site file", "failed", str(error), "docs/calibrate.md says how to make one."
            )
    findings = examine(loaded, site, log)
    if problem is not None:
        findings.append(problem)
    if json_output:
        typer.echo(json.dumps(as_json(findings, loaded), indent=2))
    else:
        _print(findings)
    if not healthy(findings):
        raise typer.Exit(1)


def as_json(findings: list[Finding], site: Any) -> dict[str, Any]:
    """The content of ``--json``."""
    from ... import __version__
    from ...envs.scenario import scenario_sha256
    from .examination import healthy

    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": None if site is None else site.scenario.name,
        "scenario_sha256": None if site is None else scenario_sha256(site.scenario),
        "seed": None,
        "healthy": healthy(findings),
        "findings": [vars(f) for f in findings],
    }


def _print(findings: list[Finding]) -> None:
    from rich.markup import escape

    from ...envs.console import table_console

    console = table_console(160)
    group = None
    for f in findings:
        if f.group != group:
            group = f.group
            console.print(f"[bold]{group}[/bold]")
        console.print(
            f"  {_MARKS[f.state]} {escape(f.name)}: {escape(f.detail)}", highlight=False, soft_wrap=True
        )
        if f.mend:
            console.print(f"          -> {escape(f.mend)}", highlight=False, soft_wrap=True)
