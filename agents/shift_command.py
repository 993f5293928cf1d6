"""The command that plays policies where the world has changed; imports what it needs when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envs.options import JsonFile, ScenarioName, Seed, Traces


def shift(
    scenario: ScenarioName,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="POLICY", help="Name, run folder or bundle folder; may be given several times."),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[POLICY]...", help="Further policies.")] = None,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Evaluation tapes of each shift.")] = 100,
    seed: Seed = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SHIFT", help="Play this shift only, beside the unchanged site; repeatable."),
    ] = None,
    safe: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="The rule to compare with, under the shield (default: the best)."),
    ] = None,
    json_file: JsonFile = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML file.")
    ] = None,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parameters of the rules, made by `carbonpilot tune`.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 unless what was asked for stays within the limits.")
    ] = False,
    traces: Traces = None,
) -> None:
    """What happens to a policy where grids, link, rate, feeds or device are not what it was made for?

    Example: carbonpilot shift metro --policy bundles/metro --episodes 200 --html shift.html
    """
    from ..envs.console import progress, table_console
    from ..envs.files import atomic_write_text, write_json
    from ..envs.scenario import load_scenario
    from .report import check_outputs
    from .rule_parameters import tuned_rules
    from .shift_page import shift_page
    from .shift_report import shift_report
    from .shift_words import TABLE_WIDTH, as_json, heading, sentences, table

    site = load_scenario(scenario, traces=traces is not None)
    check_outputs(json_file, html, None)
    rules = tuned_rules(site, tuned)
    folder = None if traces is None else str(traces)
    asked = [*(policy or []), *(more or [])]
    with progress("shift") as report:
        result = shift_report(site, asked, episodes, seed, folder, report, rules, safe, only or [])
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
        atomic_write_text(html, shift_page(result))
        typer.echo(f"wrote {html}")
    raise typer.Exit(1 if result.failed or (check and not result.holds) else 0)
