"""`carbonpilot calibrate`: measure this device, its links and servers, and write the site file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .job import Wanted


def calibrate(
    base: Annotated[
        str | None, typer.Option(metavar="SCENARIO", help="Structure and assumptions: a name or a YAML file.")
    ] = None,
    deployment: Annotated[
        Path | None, typer.Option(metavar="DEPLOY.yaml", help="Where everything is; see --template.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="FRAMES", help="Real frames: a folder, a video, or synthetic:N.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="SITE.yaml", help="The site file to write.")] = None,
    renew: Annotated[
        Path | None,
        typer.Option(
            metavar="SITE.yaml",
            help="Measure --part of this site again and keep the rest; instead of --base and --deployment.",
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="device|links|nodes", help="With --renew: what to measure again. Repeatable."),
    ] = None,
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
    from ...envs.errors import InputError
    from ...envs.files import check_output_file
    from .ledger import parse_assumptions

    if (base is None) == (renew is None):
        raise InputError(
            "calibrate needs either --base SCENARIO, for a whole site, or --renew SITE.yaml, for a part of one that "
            f"was calibrated before; got {'neither' if base is None else 'both'}."
        )
    if template and base is not None:
        _print_template(base)
        return
    needed = ({} if base is None else {"--deployment": deployment}) | {"--images": images, "--out": out}
    lacking = [name for name, value in needed.items() if value is None]
    if lacking:
        begin = (
            ""
            if base is None
            else f" Begin with: carbonpilot calibrate --base {base} --template > deploy.yaml"
        )
        raise InputError(f"calibrate needs {', '.join(lacking)}.{begin}")
    assert images is not None
    assert out is not None
    check_output_file(out)
    assumptions = parse_assumptions(assume or [])
    if renew is not None:
        from .renewal import parse_parts, renewed

        if deployment is not None:
            raise InputError("--deployment belongs to --base: a renewed site file has its own.")
        parts = parse_parts(part or [])
        _measure(renewed(renew, out, parts, assumptions, images, condition, keep_links), out, quick)
        return
    if part:
        raise InputError("--part belongs to --renew: a new site is measured as a whole.")
    assert base is not None
    assert deployment is not None
    _measure(_whole(base, deployment, out, assumptions, images, condition, keep_links), out, quick)


def _print_template(base: str) -> None:
    from ...envs.scenario import load_scenario
    from .deployment import template

    typer.echo(template(load_scenario(base)), nl=False)


def _whole(
    base: str,
    deployment: Path,
    out: Path,
    assumptions: dict,
    images: str,
    condition: str | None,
    keep_links: bool,
) -> Wanted:
    """What to measure of a site that has no file yet."""
    from ...envs.scenario import load_scenario
    from .deployment import read_deployment
    from .job import Wanted

    scenario, where = load_scenario(base), read_deployment(deployment, out.parent)
    return Wanted(scenario, base, where, out.resolve().parent, assumptions, condition, keep_links, images)


def _measure(wanted: Wanted, out: Path, quick: bool) -> None:
    """Measure, write, and say what was found."""
    import asyncio

    from ...envs.console import progress
    from ..executors.make import frames_jpeg_quality, make_executors
    from ..frames.source import open_frames
    from .calibration import calibrate as measure
    from .drafts import draft_site
    from .effort import FULL, QUICK
    from .site_writer import report, write_site

    effort = QUICK if quick else FULL
    draft = draft_site(wanted.base, wanted.deployment, wanted.base_name)
    source = open_frames(
        wanted.images, wanted.deployment.frame, jpeg_quality=frames_jpeg_quality(draft), limit=effort.images
    )
    frames = list(source)
    source.close()
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
