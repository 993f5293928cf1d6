"""The command line: puts the rooms' commands together, and tells errors without a traceback.

Exit codes: 0 done, 1 the job failed or a check says no, 2 the call or the input is wrong, 130 interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Annotated, NoReturn

import typer

from .agents import commands as agent_commands
from .agents import model_commands, reproduce_commands
from .agents.pareto_command import pareto
from .agents.partition.command import partition
from .agents.risk.commands import risk_app
from .agents.shift_command import shift
from .agents.sweep.commands import sweep_app
from .agents.tune_command import tune
from .envs.commands import scenarios_app, traces_app
from .envs.errors import CarbonPilotError, MissingExtraError
from .oracle import commands as oracle_commands
from .real.calibrate.command import calibrate
from .real.doctor.command import doctor
from .real.run_command import run
from .real.segments.commands import segments_app
from .real.testbed.commands import testbed_app
from .real.verify.command import verify_command

# Package -> extra; a missing package names the command that installs it.
_TRAIN = (
    *("gymnasium", "stable_baselines3", "sb3_contrib", "torch", "tensorboard", "codecarbon"),
    *("scipy", "matplotlib", "optuna", "onnx", "onnxruntime"),
)
EXTRAS = dict.fromkeys(_TRAIN, "train")

app = typer.Typer(name="carbonpilot", no_args_is_help=True, pretty_exceptions_enable=False)
reproduce_app = typer.Typer(no_args_is_help=True)
app.add_typer(scenarios_app, name="scenarios")
scenarios_app.command("check")(agent_commands.scenarios_check)
app.command()(agent_commands.train)
app.command()(agent_commands.benchmark)
app.command()(pareto)
app.command()(shift)
app.command()(partition)
app.command()(agent_commands.export)
app.command()(agent_commands.card)
app.command()(tune)
app.command()(oracle_commands.breakeven)
app.command()(oracle_commands.oracle)
app.add_typer(reproduce_app, name="reproduce", help="Tables of the papers, theirs beside ours.")
reproduce_app.command("khan")(reproduce_commands.khan)
reproduce_app.command("carbonedge")(reproduce_commands.carbonedge)
reproduce_app.command("ng")(reproduce_commands.ng)
app.add_typer(risk_app, name="risk")
app.add_typer(sweep_app, name="sweep")
app.add_typer(model_commands.models_app, name="models")
app.add_typer(segments_app, name="segments")
app.add_typer(traces_app, name="traces", help="Check and summarise trace files, fit the generators to them.")
app.add_typer(
    testbed_app,
    name="testbed",
    help="A device, its Triton servers and the link between them, on one machine.",
)


def _hindsight():
    """The oracle that `verify` plans a recorded tape with; the device's room does not know the oracle's."""
    from .oracle.solvers import solve_budget_coupled

    return lambda scenario, tape: solve_budget_coupled(scenario, tape).plan


app.command()(doctor)
app.command()(calibrate)
app.command()(run)
app.command()(verify_command(_hindsight))


def _show_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback(context_settings={"help_option_names": ["-h", "--help"]})
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Place each edge-AI request where it emits least CO2 within its latency objective.

    A first run: carbonpilot train metro --algo ppo --steps 200000 --out runs/first
    """


def program() -> None:
    """Be the program: run the command line, and end the process whatever threads of libraries are still at."""
    try:
        main()
    except SystemExit as end:
        if "grpc" in sys.modules:
            _end_at_once(end.code)
        raise


def _end_at_once(code: str | int | None) -> NoReturn:
    """End without the destructors of C++ libraries.

    Where calls were pending over a dead link, one run in some dozen ended with "terminate called without an active
    exception" and SIGABRT after everything had been written: a thread of gRPC's was still joinable.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the reader has gone
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


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
    if isinstance(err, CarbonPilotError):
        return err
    if isinstance(err, ImportError):
        package = (err.name or "").partition(".")[0]
        if package in EXTRAS:
            return MissingExtraError(f"This command ({package})", EXTRAS[package])
    return None


if __name__ == "__main__":
    program()
