"""`carbonpilot calibrate`: measure this device, its links and servers, and write the site file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    base: Annotated[
        str, typer.Option(metavar="SCENARIO", help="Structure and assumptions: a name or a YAML file.")
    ],
    deployment: Annotated[
        Path | None, typer.Option(metavar="DEPLOY.yaml", help="Where everything is; see --template.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="FRAMES", help="Real frames: a folder, a video, or synthetic:N.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="SITE.yaml", help="The site file to write.")] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A number that is not measured; recorded as assumed. Repeatable."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="About a minute instead of some; wide intervals.")
    ] = False,
    condition: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of links that switch, the condition that is there now."),
    ] = None,
    keep_links: Annotated[
        bool, typer.Option("--keep-links", help="Links keep the base's generator or traces.")
    ] = False,
    template: Annotated[
        bool, typer.Option("--template", help="Print a deployment file for this scenario and stop.")
    ] = False,
) -> None:
    """Measure the device, links and servers of a site and write its site file, or say what could not be measured.

    Nothing is guessed: each number is measured, given with --assume, or the base's and marked as assumed.

    Example: carbonpilot calibrate --base metro --deployment deploy.yaml --images frames/ --out site.yaml
    """
    import asyncio

    from ...envs.console import progress
    from ...envs.errors import InputError
    from ...envs.files import check_output_file
    from ...envs.scenario import load_scenario
    from ..executors.make import frames_jpeg_quality, make_executors
    from ..frames.source import open_frames
    from .calibration import calibrate as measure
    from .calibration import draft_site
    from .deployment import read_deployment
    from .deployment import template as write_template
    from .effort import FULL, QUICK
    from .job import Wanted
    from .ledger import parse_assumptions
    from .site_writer import report, write_site

    scenario = load_scenario(base)
    if template:
        typer.echo(write_template(scenario), nl=False)
        return
    if deployment is None or images is None or out is None:
        lacking = [
            n for n, v in (("--deployment", deployment), ("--images", images), ("--out", out)) if v is None
        ]
        raise InputError(
            f"calibrate needs {', '.join(lacking)}. Begin with: carbonpilot calibrate --base {base} --template "
            "> deploy.yaml"
        )
    check_output_file(out)
    assumptions = parse_assumptions(assume or [])
    where = read_deployment(deployment, out.parent)
    draft = draft_site(scenario, where, str(deployment))
    effort = QUICK if quick else FULL
    source = open_frames(images, where.frame, jpeg_quality=frames_jpeg_quality(draft), limit=effort.images)
    frames = list(source)
    source.close()
    wanted = Wanted(scenario, base, where, out.resolve().parent, assumptions, condition, keep_links, images)
    executors = make_executors(draft, wanted.folder)
    with progress("calibrate") as show:
        steps = 0

        def tell(what: str) -> None:
            nonlocal steps
            steps += 1
            show(what, min(steps, 99), 100)

        found = asyncio.run(measure(wanted, executors, frames, effort, tell))
    write_site(out, found.site)
    for line in report(found):
        typer.echo(line)
    typer.echo(f"wrote {out}")
