"""The command that draws the front of a dial; imports what it needs when called, so ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envs.options import JsonFile, ScenarioName, Seed, Traces


def pareto(
    scenario: ScenarioName,
    policy: Annotated[
        str, typer.Option(metavar="POLICY", help="A policy that knows the dial: name, run or bundle folder.")
    ],
    points: Annotated[int, typer.Option(min=2, metavar="N", help="Positions on each line of the dial.")] = 5,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Evaluation tapes.")] = 100,
    seed: Seed = 0,
    json_file: JsonFile = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the front as PNG there.")] = None,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parameters of the rules, made by `carbonpilot tune`.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit code 1 unless the objective holds everywhere and no wish works against itself.",
        ),
    ] = False,
    traces: Traces = None,
) -> None:
    """Draw the front of one policy: the same tapes at the presets and along each wish of the dial.

    Says whether the objective holds at every position, and whether each wish does what it says.

    Example: carbonpilot pareto metro --policy learned-risk --points 5 --html dial.html
    """
    from ..envs.console import progress, table_console
    from ..envs.files import atomic_write_text, write_json
    from ..envs.scenario import load_scenario
    from .pareto import pareto as play
    from .pareto_page import pareto_page
    from .pareto_report import TABLE_WIDTH, as_json, heading, sentences, table
    from .report import check_outputs
    from .rule_parameters import tuned_rules

    site = load_scenario(scenario, traces=traces is not None)
    check_outputs(json_file, html, None)
    check_outputs(plot, None, None if plot is None else plot.parent)
    rules = tuned_rules(site, tuned)
    folder = None if traces is None else str(traces)
    with progress("pareto") as report:
        result = play(site, policy, points, episodes, seed, folder, report, rules)
    for line in heading(result):
        typer.echo(line)
    table_console(TABLE_WIDTH).print(table(result), highlight=False)
    for sentence in sentences(result):
        typer.echo(f"- {sentence}")
    typer.echo(f"Rules: {rules.source}.")
    if json_file is not None:
        write_json(json_file, as_json(result))
        typer.echo(f"wrote {json_file}")
    if html is not None:
        atomic_write_text(html, pareto_page(result))
        typer.echo(f"wrote {html}")
    if plot is not None:
        from .pareto_plot import write_plot

        typer.echo(f"wrote {write_plot(result, plot)}")
    raise typer.Exit(1 if check and not result.holds else 0)
