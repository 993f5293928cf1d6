"""`carbonpilot segments`: write, check, load and unload the two halves of split models."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

segments_app = typer.Typer(no_args_is_help=True)


class WireName(str, enum.Enum):
    """How an activation crosses."""

    float32 = "float32"
    float16 = "float16"
    uint8 = "uint8"


Images = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Pictures to compare on (default: noise and coarse fields)."),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of segments, or its manifest.json.")]
ServerAddress = Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="gRPC port of Triton.")]
Cuts = Annotated[list[str] | None, typer.Option("--cut", metavar="NAME", help="Only these; may be repeated.")]


@segments_app.callback()
def root() -> None:
    """Split models: head for the device, tail for a server."""


@segments_app.command()
def write(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The whole model, with one input.")],
    cut: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="cut-012, or the activation's name; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder.")],
    wire: Annotated[WireName, typer.Option(help="How the activation crosses.")] = WireName.float32,
    images: Images = None,
    max_disagreement: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the answers that the wire may change, e.g. 0.01."),
    ] = 0.0,
    threads: Annotated[int, typer.Option(min=1, help="Of a tail on the server.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, max=64, help="Of a tail on the server.")] = 8,
    queue_delay_ms: Annotated[float, typer.Option(min=0, help="Of the server's dynamic batching.")] = 0.0,
) -> None:
    """Cut a model in two, and prove that both halves do what the whole does; else nothing is written.

    Example: carbonpilot segments write b0.onnx --cut cut-012 --wire uint8 --max-disagreement 0.01 --out b0-segments
    """
    from ...envs.console import progress
    from .repository import Serving
    from .words import segment_line
    from .write import write_segments

    serving = Serving(threads=threads, max_batch=max_batch, queue_delay_ms=queue_delay_ms)
    with progress("segments") as report:
        manifest = write_segments(
            model, cut, wire.value, out,
            images=images, max_disagreement=max_disagreement, serving=serving, report=report,
        )  # fmt: skip
    for segment in manifest.segments:
        typer.echo(segment_line(segment))
    typer.echo(f"wrote {out} ({manifest.model.name}, compared on {manifest.segments[0].checked_on})")


@segments_app.command()
def check(
    folder: Folder,
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL.onnx", help="The whole model, to compare with again.")
    ] = None,
    images: Images = None,
) -> None:
    """Compare the files with the manifest, run them, and with --model prove again that they do what it does.

    Example: carbonpilot segments check b0-segments --model b0.onnx --images pictures
    """
    from .check import check_segments
    from .words import checked_line

    for checked in check_segments(folder, model, images):
        typer.echo(checked_line(checked))


@segments_app.command()
def load(folder: Folder, server: ServerAddress, cut: Cuts = None) -> None:
    """Load tails on a running Triton server that lets its models be controlled.

    Example: carbonpilot segments load b0-segments --server 10.0.0.2:8001
    """
    from .server import load_tails

    for line in load_tails(folder, server, cut):
        typer.echo(line)


@segments_app.command()
def unload(folder: Folder, server: ServerAddress, cut: Cuts = None) -> None:
    """Unload tails from a running Triton server.

    Example: carbonpilot segments unload b0-segments --server 10.0.0.2:8001
    """
    from .server import unload_tails

    for line in unload_tails(folder, server, cut):
        typer.echo(line)
