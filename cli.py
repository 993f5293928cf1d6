"""The command line: each command checks its options, calls one function of a room, and prints what came out.

Rooms are imported inside the commands: ``--help`` is quick, and a missing extra hurts only what needs it.
Exit codes: 0 done, 1 the job failed or a check says no, 2 the call or the input is wrong, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

# Package -> extra; a missing package names the command that installs it.
EXTRAS = {
    "gymnasium": "train",
    "stable_baselines3": "train",
    "sb3_contrib": "train",
    "torch": "train",
    "tensorboard": "train",
    "codecarbon": "train",
    "scipy": "train",
    "matplotlib": "train",
    "optuna": "train",
    "onnx": "train",
    "onnxruntime": "train",
}

SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(name="carbonpilot", no_args_is_help=True, pretty_exceptions_enable=False)
scenarios_app = typer.Typer(invoke_without_command=True)
traces_app = typer.Typer(no_args_is_help=True)
reproduce_app = typer.Typer(no_args_is_help=True)
app.add_typer(scenarios_app, name="scenarios")
app.add_typer(traces_app, name="traces", help="Check and summarise trace files, fit the generators to them.")
app.add_typer(reproduce_app, name="reproduce", help="Tables of the papers, theirs beside ours.")


class Algorithm(str, enum.Enum):
    """What can be trained."""

    ppo = "ppo"
    dqn = "dqn"


ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A shipped name, or the path of a YAML file.")
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Everything random follows from it.")]
Traces = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Folder of real traces; takes the form of the scenario that reads them (metro: metro-traces).",
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback(context_settings=SETTINGS)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Place each edge-AI request where it emits least CO2 within its latency objective.

    A first run: carbonpilot train metro --algo ppo --steps 200000 --out runs/first
    """


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
) -> None:
    """List the shipped scenarios with what they are for.

    Example: carbonpilot scenarios
    """
    from .envs.catalogue import catalogue_json, print_catalogue, write_schema

    if context.invoked_subcommand is not None:
        return
    if schema is not None:
        write_schema(schema)
    elif as_json:
        _print_json(catalogue_json())
    else:
        print_catalogue()


@scenarios_app.command("check")
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

    Exit code 1 if a scenario is degenerate or cannot be kept. Example: carbonpilot scenarios check metro
    """
    from .agents.degeneracy import check_scenarios, check_sentence, write_checks_page
    from .agents.provenance import command_line
    from .envs.files import check_output_file

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


@app.command()
def train(
    scenario: ScenarioName,
    out: Annotated[
        Path, typer.Option(metavar="RUN_DIR", help="Run folder; new, or with --resume an old one.")
    ],
    algo: Annotated[Algorithm, typer.Option(help="Learning algorithm.")] = Algorithm.ppo,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Requests to learn from.")] = 500_000,
    seed: Seed = 0,
    traces: Traces = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    num_envs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Sites stepped together (default: the settings').")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings instead of configs/train/ALGO.yaml.")
    ] = None,
    country: Annotated[
        str | None, typer.Option(metavar="ABC", help="ISO code of this machine's grid, for its own CO2.")
    ] = None,
) -> None:
    """Train an agent; watch it with: tensorboard --logdir RUN_DIR/tb.

    Example: carbonpilot train metro --algo ppo --steps 500000 --seed 0 --out runs/metro-ppo
    """
    from .agents.train import train as run_training

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
        country=country,
    )


@app.command()
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
    traces: Traces = None,
) -> None:
    """Compare policies with every baseline and the oracle on the same evaluation tapes.

    Example: carbonpilot benchmark metro --policy runs/metro-ppo --episodes 100 --json result.json
    """
    from rich.console import Console

    from .agents.benchmark import benchmark as play
    from .agents.report import check_outputs, print_report, write_report
    from .envs.scenario import load_scenario

    site = load_scenario(scenario, traces=traces is not None)
    check_outputs(json_file, html, plots)
    with _progress("benchmark") as report:
        result = play(site, [*(policy or []), *(more or [])], episodes, seed, _text(traces), report)
    print_report(result, Console())
    for path in write_report(result, json_file, html, plots):
        typer.echo(f"wrote {path}")


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a training run.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE_DIR", help="Folder to create.")],
) -> None:
    """Freeze a trained policy into a bundle that loads in milliseconds without torch.

    Example: carbonpilot export runs/metro-ppo --out bundles/metro-ppo
    """
    from .agents.export import export_run

    typer.echo(f"wrote {export_run(run_dir, out)}")


@reproduce_app.command("khan")
def reproduce_khan(json_file: JsonFile = None) -> None:
    """Tables 1 and 2, the batching figures, Fig. 3 and 4 of Khan et al., each cell beside ours.

    Exit code 1 if a cell is outside its tolerance. Example: carbonpilot reproduce khan --json khan.json
    """
    from .agents.khan import reproduce

    raise typer.Exit(reproduce(json_file))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _print_json(content: object) -> None:
    import json

    typer.echo(json.dumps(content, indent=2))


@contextlib.contextmanager
def _progress(label: str) -> Iterator[Callable[[str, int, int], None]]:
    """Lend a function of (what, done, total): a bar on a terminal, a line every tenth elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    shown = 0

    def line(what: str, done: int, total: int) -> None:
        nonlocal shown
        if 10 * done // total > shown:
            shown = 10 * done // total
            console.print(f"{label}: {10 * shown} %, {what}", highlight=False)

    if not console.is_terminal:
        yield line
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(label)
        yield lambda what, done, total: bar.update(
            task, completed=done, total=total, description=f"{label}: {what}"
        )


def main() -> None:
    """Run the command line; what a user can mend is told without a traceback, what is a bug with one."""
    try:
        try:
            app(prog_name="carbonpilot")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing may be flushed at exit any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as err:
        told = _told(err)
        if told is None:
            raise
        typer.echo(f"carbonpilot: error: {told}", err=True)
        sys.exit(getattr(told, "exit_code", 1))


def _told(err: Exception) -> Exception | None:
    """The error as one meant for the user, or None for a bug."""
    from .envs.errors import CarbonPilotError, MissingExtraError

    if isinstance(err, CarbonPilotError):
        return err
    if isinstance(err, ImportError):
        package = (err.name or "").partition(".")[0]
        if package in EXTRAS:
            return MissingExtraError(f"This command ({package})", EXTRAS[package])
    return None


if __name__ == "__main__":
    main()
