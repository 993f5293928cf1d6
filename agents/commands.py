"""Commands that train, judge, freeze and reproduce. Each imports what it needs, so ``--help`` is quick."""

from __future__ import annotations

import enum
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..envs.options import JsonFile, ScenarioName, Seed, Traces, Wish


class Algorithm(str, enum.Enum):
    """What can be trained."""

    ppo = "ppo"
    maskable_ppo = "maskable-ppo"
    recurrent_ppo = "recurrent-ppo"
    dqn = "dqn"
    qrdqn = "qrdqn"


def train(
    scenario: ScenarioName,
    out: Annotated[
        Path, typer.Option(metavar="RUN_DIR", help="Run folder; new, or with --resume an old one.")
    ],
    algo: Annotated[Algorithm, typer.Option(help="Learning algorithm.")] = Algorithm.ppo,
    steps: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Requests to learn from; 0 with a teacher in the settings: no RL after it.",
        ),
    ] = 500_000,
    seed: Seed = 0,
    traces: Traces = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    num_envs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Sites stepped together (default: the settings').")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings instead of configs/train/ALGO.yaml.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A single setting, such as gamma=0.9; repeatable."),
    ] = None,
    country: Annotated[
        str | None, typer.Option(metavar="ABC", help="ISO code of this machine's grid, for its own CO2.")
    ] = None,
    wish: Annotated[
        str | None,
        typer.Option(
            metavar="WISH",
            help="Position of the dial to train for (a preset, or carbon,latency,accuracy), or 'sampled' for an agent "
            "that knows all of them. Default: the scenario's.",
        ),
    ] = None,
    risk: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Risk head and price to lay the policy over (`carbonpilot risk train`)."
        ),
    ] = None,
) -> None:
    """Train an agent; watch it with: tensorboard --logdir RUN_DIR/tb.

    Example: carbonpilot train metro --algo ppo --steps 500000 --seed 0 --out runs/metro-ppo
    """
    from .train import train as run_training
    from .training_config import changes_from

    run_training(
        scenario,
        algo.value,
        steps,
        seed,
        out,
        traces=traces,
        resume=resume,
        num_envs=num_envs,
        settings_file=settings,
        settings=changes_from(change or []),
        country=country,
        wish=wish,
        risk=risk,
    )


def benchmark(
    scenario: ScenarioName,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="POLICY", help="Name, run folder or bundle folder; may be given several times."),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="[POLICY]...", help="Further policies.")] = None,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Evaluation tapes.")] = 100,
    seed: Seed = 0,
    json_file: JsonFile = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML file.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw the plots as PNG there.")] = None,
    update_cards: Annotated[
        bool, typer.Option("--update-cards", help="Write the scores into the cards of the bundles given.")
    ] = False,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parameters of the rules, made by `carbonpilot tune`.")
    ] = None,
    coupled: Annotated[
        bool,
        typer.Option("--coupled", help="Add the coupled oracle and its certified bound (seconds a tape)."),
    ] = False,
    wish: Wish = None,
    traces: Traces = None,
) -> None:
    """Compare policies with every baseline and the oracle on the same evaluation tapes.

    Example: carbonpilot benchmark metro --policy runs/metro-ppo --episodes 100 --json result.json
    """
    from rich.console import Console

    from ..envs.console import progress
    from ..envs.dial import parse_wish, scenario_at
    from ..envs.scenario import load_scenario
    from .benchmark import benchmark as play
    from .benchmark import break_even_extras
    from .benchmark_coupled import COUPLED, add_coupled, add_reachable
    from .card_scores import bundles, write_scores
    from .report import check_outputs, print_report, write_report
    from .risk.report import calibrations
    from .rule_parameters import tuned_rules

    site = load_scenario(scenario, traces=traces is not None)
    asked = [*(policy or []), *(more or [])]
    coupled = coupled or "oracle" in asked or COUPLED in asked
    asked = [name for name in asked if name not in ("oracle", COUPLED)]
    check_outputs(json_file, html, plots)
    cards = bundles(asked, site) if update_cards else []
    rules = tuned_rules(site, tuned)  # of the site as it is shipped: rules do not know the dial
    site = scenario_at(site, None if wish is None else parse_wish(wish))
    extras = replace(break_even_extras(site, _text(traces)), calibrations=calibrations(asked, site))
    with progress("benchmark") as report:
        result = play(site, asked, episodes, seed, _text(traces), report, rules)
    if coupled:
        with progress("oracle") as report:
            result = add_coupled(result, _text(traces), report)
    result = add_reachable(result, _text(traces))
    print_report(result, Console(), extras)
    typer.echo(f"Rules: {rules.source}.")
    for path in [*write_report(result, json_file, html, plots, extras), *write_scores(result, cards)]:
        typer.echo(f"wrote {path}")
    raise typer.Exit(1 if result.failed_asked else 0)


def export(
    run_dir: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="Folder of a training run, or of a risk head and its price."),
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE_DIR", help="Folder to create.")],
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="SCENARIO", help="Site of a risk head (default: the shipped one it was made for)."
        ),
    ] = None,
) -> None:
    """Freeze a trained policy into a bundle that loads in milliseconds without torch.

    Example: carbonpilot export runs/metro-ppo --out bundles/metro-ppo
    """
    from ..envs.errors import InputError
    from ..envs.scenario import load_scenario
    from .export import export_run
    from .export_risk import export_risk
    from .risk.folder import is_risk_folder

    if is_risk_folder(run_dir):
        site = None if scenario is None else load_scenario(scenario)
        typer.echo(f"wrote {export_risk(run_dir, out, site)}")
        return
    if scenario is not None:
        raise InputError(
            f"--scenario is for risk folders; the run {run_dir} holds its own scenario. Leave it out."
        )
    typer.echo(f"wrote {export_run(run_dir, out)}")


def card(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR", help="Made by export.")],
) -> None:
    """Show a bundle's card: what it is, its scores, what training cost, what it must not be used for.

    Example: carbonpilot card bundles/metro-ppo
    """
    from .bundle import read_bundle
    from .card_text import card_lines

    for line in card_lines(read_bundle(bundle)[0]):
        typer.echo(line)


def scenarios_check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="Default: all.")] = None,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Evaluation tapes for each.")] = 200,
    seed: Seed = 0,
    traces: Traces = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures as a Markdown page.")
    ] = None,
) -> None:
    """Is there anything to win? Hindsight and the static placements on the same tapes.

    Exit code 1 if a scenario is degenerate or cannot be kept.

    Example: carbonpilot scenarios check metro
    """
    from ..envs.files import check_output_file
    from .degeneracy import check_scenarios, check_sentence, write_checks_page
    from .provenance import command_line

    if page is not None:
        check_output_file(page)
    checked = check_scenarios(
        names,
        episodes,
        seed,
        _text(traces),
        lambda name: typer.echo(f"{name} ...", err=True),
    )
    for check in checked:
        typer.echo(check_sentence(check))
    if page is not None:
        write_checks_page(page, checked, command_line(), episodes, seed)
    raise typer.Exit(0 if all(check.passes for check in checked) else 1)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
