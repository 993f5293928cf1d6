"""`carbonpilot risk`: make a risk head with its price. Imports what it needs late, so ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...envs.options import ScenarioName, Seed, Traces

risk_app = typer.Typer(no_args_is_help=True)


@risk_app.callback()
def root() -> None:
    """The risk head and its price, which `learned-risk` is made of."""


@risk_app.command()
def train(
    scenario: ScenarioName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to create; a policy of its own.")],
    seed: Seed = 0,
    rounds: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Rollouts with the head so far (default: the settings')."),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Training tapes of a rollout (default: the settings')."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Settings of the search for the final price.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes of the searches.")] = 1,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings instead of configs/train/risk.yaml.")
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the head of this risk folder; search a price for it here."),
    ] = None,
    country: Annotated[
        str | None, typer.Option(metavar="ABC", help="ISO code of this machine's grid, for its own CO2.")
    ] = None,
    traces: Traces = None,
) -> None:
    """Fit a risk head on what every placement would have come to, and search the price on it.

    Only training tapes are used. Prints what each stage gave, in carbon, samples and seconds.

    Example: carbonpilot risk train metro --out runs/metro-risk

    Example: carbonpilot risk train metro --head runs/wide-risk --out runs/metro-risk
    """
    from ...envs.console import progress
    from ...envs.errors import InputError
    from .train import run_risk_training

    if head is not None and (rounds is not None or episodes is not None):
        raise InputError(
            "--head keeps a head as it is: leave --rounds and --episodes out, which are for fitting one."
        )
    changes = {"rounds": rounds, "episodes": episodes, "trials": trials, "country_iso_code": country}
    with progress("risk") as report:
        path = run_risk_training(
            scenario,
            out,
            seed=seed,
            traces=traces,
            head=head,
            settings_file=settings,
            changes=changes,
            jobs=jobs,
            say=typer.echo,
            progress=report,
        )
    typer.echo(f"wrote {path}")
