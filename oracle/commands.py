"""Commands of hindsight and break-even. Each imports what it needs, so ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envs.options import JsonFile, ScenarioName, Seed, Traces


def breakeven(
    scenario: ScenarioName,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the map as PNG there.")] = None,
    traces: Traces = None,
) -> None:
    """Where carbon and latency tip between the placements of a site, in closed form, and what can be saved at most.

    Says plainly where no placement policy can save carbon.

    Example: carbonpilot breakeven metro --plot breakeven.png
    """
    from .breakeven_command import run_breakeven

    raise typer.Exit(run_breakeven(scenario, json_file, plot, traces))
