"""`carbonpilot testbed`: a device, its servers and the link between them on one machine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from ...envs.errors import InputError
from .uploads_command import uploads

testbed_app = typer.Typer(no_args_is_help=True)
testbed_app.command()(uploads)

State = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the running test bed (default: /run or $XDG_RUNTIME_DIR, carbonpilot-testbed).",
    ),
]


def _folder(state: Path | None) -> Path:
    from .link import default_state_folder

    return (state or default_state_folder()).absolute()


@testbed_app.command()
def up(
    profile: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="lan, clean-30, emu-a, emu-b, outage, or a recorded link."),
    ] = "lan",
    rate_mbps: Annotated[
        float | None, typer.Option(help="Rate of a recorded link that has none of its own, Mbit/s.")
    ] = None,
    model_set: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="stand-in, fast, or a YAML file (docs/testbed.md).")
    ] = "stand-in",
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A B0 graph, served as segformer-b0-onnx-*.")
    ] = None,
    onnx_b4: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A B4 graph, served as segformer-b4-onnx-*.")
    ] = None,
    regions: Annotated[int, typer.Option(min=0, max=9, help="Further servers, in other regions.")] = 0,
    region_rtt_ms: Annotated[
        float,
        typer.Option(min=0, help="What the first region adds to the round trip; the n-th n times that."),
    ] = 12.0,
    loopback: Annotated[
        bool, typer.Option("--loopback", help="No namespaces, no link, no root: a server on this machine.")
    ] = False,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535)] = 8001,
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535)] = 8002,
    echo_port: Annotated[int, typer.Option(min=1, max=65535, help="Of the echo server.")] = 7007,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the link's losses and jitter.")] = None,
    model_control: Annotated[
        bool,
        typer.Option("--model-control", help="Let `carbonpilot segments` load and unload models."),
    ] = False,
    state: State = None,
) -> None:
    """Start device, Triton server and link in the background; ready when the server says so (needs root).

    Example: carbonpilot testbed up --profile emu-a --regions 1
    """
    from .bed import BedSettings
    from .profiles import profile_or_schedule
    from .repository.settings import model_set as named_set
    from .server import Ports
    from .up import bring_up

    settings = BedSettings(
        models=named_set(model_set).with_graphs(b0=onnx, b4=onnx_b4),
        link=profile_or_schedule(profile, rate_mbps),
        regions=regions,
        region_rtt_ms=region_rtt_ms,
        loopback=loopback,
        ports=Ports(grpc_port, http_port, metrics_port),
        echo_port=echo_port,
        seed=seed,
        model_control=model_control,
    )
    bed, started = bring_up(settings, _folder(state))
    typer.echo("The test bed is up." if started else "The test bed runs already.")
    for node, server in bed.servers.items():
        typer.echo(f"  {node}: grpc {server.grpc}, {server.http}, metrics {server.metrics}, "
                   f"echo {server.address}:{server.echo_port}")  # fmt: skip
    if bed.device is not None:
        typer.echo(
            f"  link: {profile} ({bed.link_kind}). On the device: carbonpilot testbed exec COMMAND ..."
        )


@testbed_app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, state: State = None
) -> None:
    """Say how each part is: addresses, health, counters, link. Exit 1 where one is ill or no test bed runs.

    Example: carbonpilot testbed status
    """
    from .state import read_state
    from .status import bed_status
    from .status_text import status_lines

    folder = _folder(state)
    bed = read_state(folder)
    said: dict[str, Any] = {"schema": "carbonpilot/testbed-status/1", "running": False, "healthy": False}
    if bed is not None:
        said = bed_status(folder, bed)
    for line in [json.dumps(said, indent=2)] if as_json else status_lines(said):
        typer.echo(line)
    if not said["healthy"]:
        raise typer.Exit(1)


@testbed_app.command()
def shape(
    profile: Annotated[
        str | None,
        typer.Argument(metavar="[PROFILE|FILE]", help="A profile by name, or a recorded link to play."),
    ] = None,
    outage: Annotated[
        bool | None, typer.Option("--outage/--no-outage", help="Let nothing pass, or let it pass again.")
    ] = None,
    rtt_ms: Annotated[float | None, typer.Option(help="Round trip, ms.")] = None,
    jitter_ms: Annotated[float | None, typer.Option(help="Its standard deviation, ms.")] = None,
    loss_pct: Annotated[float | None, typer.Option(min=0, max=100, help="Lost packets, %.")] = None,
    rate_mbps: Annotated[float | None, typer.Option(help="Rate, Mbit/s.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Play a recorded link again and again.")] = False,
    state: State = None,
) -> None:
    """Change the running link: to a profile, or in the numbers given; the others stay.

    Example: carbonpilot testbed shape emu-b; carbonpilot testbed shape --loss-pct 20
    """
    from .shape import shape_link
    from .state import running

    loss = None if loss_pct is None else loss_pct / 100.0
    numbers = {
        "outage": outage,
        "rtt_ms": rtt_ms,
        "rtt_jitter_ms": jitter_ms,
        "loss": loss,
        "rate_mbps": rate_mbps,
    }
    typer.echo(shape_link(running(_folder(state)), profile, numbers, loop))


@testbed_app.command()
def tenants(
    load: Annotated[
        float | None, typer.Option(help="Share of the model's capacity in full batches, e.g. 0.5.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Images a second instead.")] = None,
    model: Annotated[str, typer.Option(help="What they ask for.")] = "segformer-b0-jpeg",
    node: Annotated[str, typer.Option(help="Whose server: edge, region1, ...")] = "edge",
    bursts: Annotated[
        bool, typer.Option("--bursts", help="1.8 and 0.2 times the rate in turns of 2 s on average.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of their arrivals.")] = 0,
    stop: Annotated[bool, typer.Option("--stop", help="End them.")] = False,
    state: State = None,
) -> None:
    """Start other tenants' load beside a server, in place of the one before, or end it.

    Example: carbonpilot testbed tenants --load 0.5
    """
    from .state import running
    from .tenants_background import start_tenants, stop_tenants

    if stop == (load is not None or rate is not None) or (load is not None and rate is not None):
        raise InputError("Give one of --load, --rate and --stop.")
    folder = _folder(state)
    bed = running(folder)
    if stop:
        counts = stop_tenants(folder)
        typer.echo("No tenants were running." if counts is None else _counted(counts))
        return
    settings = start_tenants(folder, bed, node, model, load, rate, bursts=bursts, seed=seed)
    typer.echo(f"Tenants of {node} ask for {settings.rate_per_s:.1f} images a second of {settings.model}.")


def _counted(counts: dict[str, Any]) -> str:
    return (
        f"Tenants ended: {counts.get('sent', 0)} sent, {counts.get('answered', 0)} answered, "
        f"{counts.get('failed', 0)} failed, {counts.get('held_back', 0)} held back."
    )


@testbed_app.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
def execute(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND ...", help="What to run.")],
    node: Annotated[str, typer.Option(help="Where: device, edge, region1, ...")] = "device",
    state: State = None,
) -> None:
    """Run a command on the device (or on another node) of the running test bed; its exit code is the command's.

    Example: carbonpilot testbed exec carbonpilot run --bundle DIR --site SITE.yaml --images DIR
    """
    from ...envs.errors import unknown_name
    from .state import running

    bed = running(_folder(state))
    spaces = {"device": bed.device} | {name: server.namespace for name, server in bed.servers.items()}
    if node not in spaces:
        raise unknown_name("node", node, spaces)
    space = spaces[node]
    if shutil.which(command[0]) is None:
        raise InputError(f"There is no command {command[0]}.")
    argv = ["ip", "netns", "exec", space, *command] if space else command
    os.execvp(argv[0], argv)


@testbed_app.command()
def down(state: State = None) -> None:
    """End the test bed and everything that it, or a killed run before it, left; harmless where there is none.

    Example: carbonpilot testbed down
    """
    from .state import locked, take_down

    folder = _folder(state)
    with locked(folder):
        found = take_down(folder)
    typer.echo("The test bed is down." if found else "No test bed was running.")
