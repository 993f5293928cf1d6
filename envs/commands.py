"""Commands about scenarios and traces. Each imports what it needs, so ``--help`` is quick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import JsonFile, Seed

scenarios_app = typer.Typer(invoke_without_command=True)
traces_app = typer.Typer(no_args_is_help=True)


@scenarios_app.callback()
def scenarios(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    schema: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the JSON schema of a scenario there ('-': standard output)."
        ),
    ] = None,
    observation: Annotated[
        str | None,
        typer.Option(metavar="SCENARIO", help="Print what an agent sees on a site, as a Markdown page."),
    ] = None,
) -> None:
    """List the shipped scenarios with what they are for.

    Example: carbonpilot scenarios
    """
    from .catalogue import catalogue_json, print_catalogue, write_schema
    from .observation_page import observation_page
    from .scenario import load_scenario

    if context.invoked_subcommand is not None:
        return
    if schema is not None:
        write_schema(schema)
    elif observation is not None:
        typer.echo(observation_page(load_scenario(observation)), nl=False)
    elif as_json:
        typer.echo(json.dumps(catalogue_json(), indent=2))
    else:
        print_catalogue()


TraceFiles = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, or folders of them.")]
TraceFolder = Annotated[
    Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder of the recordings.")
]


@traces_app.command("check")
def traces_check(files: TraceFiles) -> None:
    """Show what is wrong with trace files: file, line, column.

    Exit code 1 if a file has errors.

    Example: carbonpilot traces check grid.csv link.csv
    """
    from .traces.commands import check_command

    raise typer.Exit(check_command(files))


@traces_app.command("summary")
def traces_summary(files: TraceFiles, json_file: JsonFile = None) -> None:
    """Show trace files in numbers: span, gaps, spread of every column.

    Example: carbonpilot traces summary grid.csv --json summary.json
    """
    from .traces.commands import summary_command

    raise typer.Exit(summary_command(files, json_file))


@traces_app.command("fit")
def traces_fit(
    folder: TraceFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets links/*.yaml and zones/*.yaml.")],
    docs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Gets a page that shows how well they fit.")
    ] = None,
) -> None:
    """Fit the generators of links and zones to recordings.

    Example: carbonpilot traces fit ../shared/data --out configs --docs docs
    """
    from .fit_command import fit_command

    raise typer.Exit(fit_command(folder, out, docs))


@traces_app.command("transfers")
def traces_transfers(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Uploads in the form of uploads_kernel_tcp.csv.")
    ],
    json_file: JsonFile = None,
    seed: Seed = 1,
) -> None:
    """Compare the tcp transfer model with recorded uploads over a real kernel connection.

    Exit code 1 if a cell is outside its tolerance.

    Example: carbonpilot traces transfers ../shared/data/transfers/uploads_kernel_tcp.csv
    """
    from .files import check_output_file
    from .transfer.validate import validate_transfers

    if json_file is not None:
        check_output_file(json_file)
    raise typer.Exit(validate_transfers(file, json_file, seed))
