"""`carbonpilot run`: a policy decides for every frame on this device. Imports what it needs late, to start quickly."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..envs.options import Wish


class _Mode(str, Enum):
    shadow = "shadow"
    active = "active"


class _Overload(str, Enum):
    skip = "skip"
    wait = "wait"


class _Fallback(str, Enum):
    risk = "risk"
    always = "always"
    never = "never"


_NONE = "none"


def run(
    site: Annotated[Path, typer.Option("--site", help="Site file of this device, made by calibrate.")],
    images: Annotated[
        str, typer.Option("--images", help="Folder, image, video, camera:0, or synthetic:COUNT.")
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Trained policy, made by export; pretrained: the one shipped for the site."
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Static policy instead: always-local, always-PLACEMENT, round-robin."),
    ] = None,
    wish: Wish = None,
    mode: Annotated[
        _Mode, typer.Option(help="shadow: decide and log, execute on the device; active: act.")
    ] = _Mode.shadow,
    log: Annotated[
        Path | None, typer.Option("--log", help="Folder of the log; a run goes on where its log ends.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Frames a second; default: the camera's or the site's.")
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", help="Stop after so many frames.")] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Begin again at the end of the images.")] = False,
    in_flight: Annotated[int, typer.Option(help="Remote calls at a time.")] = 4,
    queue: Annotated[int, typer.Option(help="Frames without a result at most.")] = 8,
    overload: Annotated[
        _Overload,
        typer.Option(help="A frame that finds no room: skip answers it at once, wait holds it back."),
    ] = _Overload.skip,
    fallback: Annotated[
        _Fallback, typer.Option(help="When the device computes as well, in time for the objective.")
    ] = _Fallback.risk,
    masks: Annotated[Path | None, typer.Option("--masks", help="Write the masks there as PNG.")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Write curves there for TensorBoard.")
    ] = None,
    listen: Annotated[
        str, typer.Option(help="Address of the status page and Prometheus metrics; none: no server.")
    ] = "127.0.0.1:9464",
    log_megabytes: Annotated[float, typer.Option(help="Size of one file of the log.")] = 64.0,
    log_files: Annotated[int | None, typer.Option(help="Files of the log to keep; default: all.")] = None,
    drain_s: Annotated[float, typer.Option(help="Time for frames under way when the run is stopped.")] = 5.0,
    allow_other_device: Annotated[
        bool, typer.Option("--allow-other-device", help="Run with another device's site file.")
    ] = False,
    start_without_servers: Annotated[
        bool,
        typer.Option(
            "--start-without-servers", help="A server that does not answer at the start is tried later."
        ),
    ] = False,
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="Compute nothing: every placement takes its calibrated time.")
    ] = False,
) -> None:
    """Run a policy on this device: one result and one log line for every frame, whatever fails.

    Stop it with Ctrl-C or SIGTERM: frames under way are finished, the log is flushed.

    Example: carbonpilot run --bundle my-bundle --site site.yaml --images photos --mode shadow
    """
    without_compiler()
    from .runtime.options import RunOptions
    from .runtime.process import run_until_stopped

    options = RunOptions(
        site=site,
        images=images,
        bundle=bundle,
        policy=policy,
        wish=wish,
        mode=mode.value,
        rate=rate,
        frames=frames,
        repeat=repeat,
        in_flight=in_flight,
        queue=queue,
        overload=overload.value,
        fallback=fallback.value,
        drain_s=drain_s,
        log=log,
        log_file_bytes=round(log_megabytes * 1e6),
        log_files=log_files,
        masks=masks,
        tensorboard=tensorboard,
        listen=None if listen == _NONE else listen,
        allow_other_device=allow_other_device,
        start_without_servers=start_without_servers,
        stand_in=stand_in,
    )
    raise typer.Exit(run_until_stopped(options))


def without_compiler() -> None:
    """Keep numba out of this process: a decision needs no compiled physics, and numba costs a second and 100 MB.

    A process that has it already (a test, a notebook) keeps it.
    """
    if "numba" not in sys.modules and "carbonpilot.envs.compiling" not in sys.modules:
        os.environ["CARBONPILOT_NUMBA"] = "0"
        try:
            from ..envs import compiling  # noqa: F401
        finally:
            del os.environ["CARBONPILOT_NUMBA"]
