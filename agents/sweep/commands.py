"""`carbonpilot sweep`: train many agents, and turn them into one table."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ...envs.options import JsonFile, Seed, Traces

sweep_app = typer.Typer(no_args_is_help=True)
STEPS, SEEDS = 500_000, "0-4"
TABLE_WIDTH = 220  # columns that the results table needs


class EngineName(str, enum.Enum):
    """Where trials run."""

    local = "local"
    ray = "ray"


@sweep_app.callback()
def root() -> None:
    """Train many agents, algorithms x settings x scenarios x seeds, and turn them into one table."""


@sweep_app.command()
def run(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Sweep file (docs/sweep.md).")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder; one with a sweep goes on.")] = ...,  # type: ignore[assignment]
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Without a file: may be given several times.")
    ] = None,
    algo: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Without a file: may be given several times.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Without a file: requests to learn from (500000).")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Without a file: 0,1,2 or 0-4 (the default).")
    ] = None,
    traces: Traces = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trainings at a time (default: one per CPU).")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = EngineName.local,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Of a Ray cluster; 'auto' for the one here (default: starts its own)."
        ),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="Of a trial whose process was lost.")] = 2,
) -> None:
    """Run a sweep; finished trials are skipped, interrupted ones go on from their checkpoint.

    Example: carbonpilot sweep run --scenario metro --algo ppo --algo dqn --seeds 0-4 --out runs/sweep
    """
    import os

    from ...envs.console import progress
    from ...envs.errors import InputError
    from .folder import SweepFolder
    from .spec import read_spec, spec_of_options

    options = {"--scenario": scenario, "--algo": algo, "--steps": steps, "--seeds": seeds, "--traces": traces}
    given = [name for name, value in options.items() if value is not None]
    if file is not None and given:
        raise InputError(f"{', '.join(given)}: the sweep file says this already. Give either.")
    spec = (
        read_spec(file)
        if file is not None
        else spec_of_options(scenario or (), algo or (), steps or STEPS, seeds or SEEDS, traces)
    )
    from .run import Sweep  # late: torch takes seconds to import
    from .trial import expand

    trials = expand(spec, Path.cwd() if file is None else file.absolute().parent)
    folder = SweepFolder(out)
    with folder.locked():
        folder.add(trials)
        if engine is EngineName.ray:
            from .ray_engine import RayEngine

            where = RayEngine(folder, jobs, address)
        else:
            from .local import LocalEngine

            where = LocalEngine(folder, jobs or os.cpu_count() or 1)
        with progress("sweep") as report:
            Sweep(folder, trials, where, lambda line: typer.echo(line, err=True), report, retries).run()


@sweep_app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a sweep.")],
    episodes: Annotated[int, typer.Option(min=2, metavar="N", help="Evaluation tapes for each site.")] = 200,
    seed: Seed = 0,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parameters of the rules, made by `carbonpilot tune`.")
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCENARIO", help="Play there instead of where was trained; may be given several times."
        ),
    ] = None,
    traces: Traces = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 1,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
    json_file: JsonFile = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the tables as one HTML page.")
    ] = None,
) -> None:
    """Turn a sweep into the results table: all runs, baselines, rules and hindsight on the same evaluation tapes.

    Every policy but hindsight is played without and with the run-time shield.

    Example: carbonpilot sweep report runs/sweep --episodes 200 --markdown results.md --json results.json
    """
    from ...envs.console import progress, table_console
    from ...envs.files import atomic_write_text, check_output_file, write_json
    from ..verdict import verdict
    from .report import explanation, sweep_report
    from .table import as_plain, markdown, page, terminal

    files = [file for file in (markdown_file, json_file, html_file) if file is not None]
    for file in files:
        check_output_file(file)
    with progress("sweep report") as tell:
        reports = sweep_report(folder, episodes, seed, tuned, jobs, tell, on or (), traces)
    console = table_console(TABLE_WIDTH)
    for site in reports:
        for line in explanation(site):
            console.print(line, highlight=False, markup=False)
        console.print(terminal(site), highlight=False)
        for note in [*site.notes, *verdict(site.field.result)]:
            console.print(f"- {note}", highlight=False, markup=False)
    if json_file is not None:
        write_json(json_file, as_plain(reports))
    if markdown_file is not None:
        atomic_write_text(markdown_file, markdown(reports))
    if html_file is not None:
        atomic_write_text(html_file, page(reports))
    for file in files:
        typer.echo(f"wrote {file}")
