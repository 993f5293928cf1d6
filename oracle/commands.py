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


def oracle(
    scenario: ScenarioName,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="ORACLE", help="One of the oracles; may be given several times. Default: all."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Evaluation tapes.")] = 20,
    seed: Seed = 0,
    climb: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Steps that raise the bound: more take longer and narrow the gap."
        ),
    ] = 400,
    json_file: JsonFile = None,
    traces: Traces = None,
) -> None:
    """What hindsight reaches on the evaluation tapes, and a bound that no policy can beat.

    The tapes are those that `carbonpilot benchmark` plays with the same seed.

    Example: carbonpilot oracle metro --episodes 20 --json oracle.json
    """
    from .command import run_oracle
    from .coupled import Effort
    from .dual import Climb

    effort = Effort(climb=Climb(steps=climb))
    run_oracle(scenario, episodes, seed, traces, json_file, policy or (), effort)
