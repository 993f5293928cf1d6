"""`carbonpilot testbed uploads`: fresh uploads over the emulated links, for `carbonpilot traces transfers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...envs.errors import InputError

_LIST = "May be given several times."


def uploads(
    out: Annotated[Path, typer.Option(metavar="CSV", help="File to write; its summary goes beside it.")],
    profile: Annotated[
        list[str], typer.Option(metavar="NAME", help=f"Emulated link: lan, clean-30, emu-a, emu-b. {_LIST}")
    ],
    congestion_control: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"bbr, cubic or another of the kernel's. {_LIST}")
    ] = None,
    payload_kb: Annotated[
        list[float] | None, typer.Option(metavar="KB", help=f"Size of an upload, kB. {_LIST}")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="Connections of each combination.")] = 10,
    uploads: Annotated[int, typer.Option(min=1, help="Uploads of each connection.")] = 40,
    links: Annotated[
        int, typer.Option(min=1, max=64, help="Connections at once, each over a link of its own.")
    ] = 1,
    gap_ms: Annotated[
        float, typer.Option(min=0, help="From the start of one upload to the next one's.")
    ] = 100.0,
    reconnect: Annotated[
        bool, typer.Option("--reconnect", help="A new connection for every upload, its handshake counted.")
    ] = False,
    no_slow_start_after_idle: Annotated[
        bool, typer.Option("--no-slow-start-after-idle", help="Set tcp_slow_start_after_idle=0.")
    ] = False,
) -> None:
    """Time uploads over real TCP connections across an emulated link, in namespaces of its own (needs root).

    Connections over a link whose process was late (99 % of its packets within 2 ms) are measured again, and left
    out after the third time; the summary counts them.

    Example: carbonpilot testbed uploads --profile emu-a --payload-kb 60 --connections 20 --links 6 --out up.csv
    """
    from ...envs.console import progress
    from ...envs.files import check_output_file
    from .profiles import PROFILES, profile_named
    from .uploads import Job, Measured, UploadBed
    from .uploads_file import Rig, measure_with_rig, summary_path, write_summary, write_uploads

    profiles = [profile_named(name) for name in profile]
    if any(p.outage for p in profiles):
        raise InputError(
            f"Nothing can be uploaded over an outage. Use {', '.join(n for n in PROFILES if n != 'outage')}."
        )
    sizes = [round(1000 * kb) for kb in payload_kb or [30.0, 60.0, 120.0, 300.0, 1000.0]]
    if min(sizes) < 1:
        raise InputError(f"--payload-kb must be above 0, got {min(payload_kb or [])}.")
    check_output_file(out)
    jobs = [
        Job(p, control, size, c, uploads, gap_ms / 1e3, reconnect)
        for p in profiles
        for control in congestion_control or ["cubic", "bbr"]
        for size in sizes
        for c in range(connections)
    ]
    done: list[tuple[Measured, Rig]] = []
    with (
        UploadBed(links, no_slow_start_after_idle=no_slow_start_after_idle) as bed,
        progress("uploads") as tell,
    ):
        try:
            for measured, rig in measure_with_rig(bed, jobs):
                done.append((measured, rig))
                job = measured.job
                what = f"{job.profile.name}, {job.congestion_control}, {job.payload_bytes / 1000:g} kB"
                tell(what, len(done), len(jobs))
        finally:  # what was measured before an interruption is kept
            if done:
                write_uploads(out, done)
                settings = {"links": links, "gap_ms": gap_ms, "reconnect": reconnect}
                settings["no_slow_start_after_idle"] = no_slow_start_after_idle
                write_summary(summary_path(out), done, **settings)
    kept = [measured for measured, _ in done if measured.kept]
    uploaded = sum(len(measured.uploads) for measured in kept)
    typer.echo(f"{out}: {uploaded} uploads, {len(done) - len(kept)} connections left out")
