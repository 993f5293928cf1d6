"""`carbonpilot tune`: the parameters of rules, or the settings of a learning algorithm, on training tapes."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..envs.options import ScenarioName, Seed, Traces
from .commands import Algorithm


class Sampler(str, enum.Enum):
    """How settings are proposed."""

    cem = "cem"
    tpe = "tpe"
    random = "random"


def tune(
    scenario: ScenarioName,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Gets the parameters or settings, as YAML.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Rule to tune, or 'all'; may be given several times."),
    ] = None,
    algo: Annotated[
        Algorithm | None, typer.Option(help="Instead of rules: learning algorithm whose settings are tuned.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Settings to try for each rule (agents: 40).")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Rules: the same, as simulated requests. Agents: requests that each trial learns from (300000).",
        ),
    ] = None,
    seed: Seed = 0,
    sampler: Annotated[
        Sampler | None,
        typer.Option(help="How settings are proposed (default: cem for rules, tpe for agents)."),
    ] = None,
    aim: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the tapes that shall meet the SLO.")
    ] = 0.97,
    study: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Optuna journal: a search that was stopped goes on.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Rules: tuned parameters to begin at, of this or another scenario."
        ),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Agents: what is searched (default: configs/tune/ALGO.yaml)."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Agents: settings that every trial starts from.")
    ] = None,
    risk: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Agents: risk head and price that every trial's policy is laid over."
        ),
    ] = None,
    traces: Traces = None,
) -> None:
    """Search the parameters of rules, or the settings of an algorithm, on training tapes.

    The winner is chosen on fresh training tapes; evaluation tapes are never touched.

    Example: carbonpilot tune metro --policy slo-predictive-budget --out tuned.yaml

    Example: carbonpilot tune metro --algo ppo --study ppo.journal --jobs 2 --out ppo.yaml
    """
    from ..envs.errors import InputError

    if (policy is None) == (algo is None):
        raise InputError(
            "Expected either --policy NAME (a rule, or 'all') or --algo NAME (a learning algorithm)."
        )
    shared: dict[str, Any] = {"trials": trials, "steps": steps, "seed": seed, "jobs": jobs}
    shared["sampler"] = None if sampler is None else sampler.value
    if policy is not None:
        _refuse("rules", {"--space": space, "--settings": settings, "--risk": risk})
        _tune_rules(scenario, policy, out, aim, study, start, traces, shared)
    elif algo is not None:
        _refuse("agents", {"--start": start})
        _tune_agent(scenario, algo.value, out, aim, study, space, settings, traces, risk, shared)
    typer.echo(f"wrote {out}")


def _refuse(what: str, options: dict[str, Any]) -> None:
    """Options that would have no effect."""
    from ..envs.errors import InputError

    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} has no meaning for {what}. Leave it out.")


def _tune_rules(
    scenario: str,
    policy: list[str],
    out: Path,
    aim: float,
    study: Path | None,
    start: Path | None,
    traces: Path | None,
    options: dict[str, Any],
) -> None:
    from ..envs.console import progress, table_console
    from .rule_parameters import tunable_rules
    from .tune import run_tune
    from .tune_objective import Objective
    from .tune_options import TuneOptions
    from .tune_report import TABLE_WIDTH, print_tuned

    options = {**options, "sampler": options["sampler"] or "cem", "objective": Objective(aim)}
    with progress("tune") as report:
        content = run_tune(
            scenario,
            policy,
            out,
            options=TuneOptions(**options),
            study=study,
            traces=traces,
            start=start,
            progress=report,
        )
    every = [name for name, rule in tunable_rules().items() if rule.tunables]
    print_tuned(content, every if "all" in policy else policy, table_console(TABLE_WIDTH))


def _tune_agent(
    scenario: str,
    algo: str,
    out: Path,
    aim: float,
    study: Path | None,
    space: Path | None,
    settings: Path | None,
    traces: Path | None,
    risk: Path | None,
    options: dict[str, Any],
) -> None:
    from ..envs.console import progress
    from .tune_agents.options import STEPS, AgentTuneOptions
    from .tune_agents.tune import notes, tune_agent
    from .tune_objective import Objective

    given = {name: value for name, value in options.items() if value is not None}
    chosen = AgentTuneOptions(**{"steps": STEPS, **given, "objective": Objective(aim)})
    with progress("tune") as report:
        found = tune_agent(
            scenario,
            algo,
            out,
            chosen,
            space_file=space,
            settings_file=settings,
            study=study,
            traces=traces,
            risk=risk,
            progress=report,
        )
    typer.echo(notes(found, chosen))
