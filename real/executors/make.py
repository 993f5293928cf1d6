"""The executors of a site."""

from __future__ import annotations

from pathlib import Path

from ...envs.errors import InputError
from ...envs.schema import LOCAL
from ..interfaces import Executor
from ..site_file import SiteFile
from .device import Device
from .local import LocalExecutor
from .split import SplitExecutor
from .triton import TritonExecutor
from .triton_channel import TritonChannel


def make_executors(site: SiteFile, folder: Path) -> dict[str, Executor]:
    """An executor for each placement, none of them started.

    Placements of one node share its connection, all that the device computes takes turns in one worker.

    Placements of absent nodes have none.

    Args:
        site: the site.
        folder: of the site file, which its paths are relative to.

    Returns:
        placement -> executor, in the scenario's order.

    Raises:
        InputError: the site has two local placements, but the site file names one local model.
    """
    place = site.deployment
    channels = {node: TritonChannel(server, folder) for node, server in place.servers.items()}
    device = Device()
    executors: dict[str, Executor] = {}
    for p in site.scenario.placements:
        if p.node in site.absent:
            continue
        if p.split is not None:
            executors[p.name] = SplitExecutor(
                p.name, place.remote[p.name], place.local, place.frame, folder, channels[p.node], device
            )
        elif p.node != LOCAL:
            executors[p.name] = TritonExecutor(p.name, place.remote[p.name], place.frame, channels[p.node])
        elif LOCAL in (q.node for q in site.scenario.placements if q.name in executors):
            raise InputError(
                f"Placement {p.name}: the site has a local placement already, and deployment.local names one model."
            )
        else:
            executors[p.name] = LocalExecutor(p.name, place.local, place.frame, folder, device)
    return executors


def frames_jpeg_quality(site: SiteFile) -> int | None:
    """The quality at which frames are encoded ahead of decisions; None where no placement sends JPEG.

    Raises:
        InputError: two placements want different qualities; a frame is encoded once, whatever is decided.
    """
    qualities = {
        name: m.jpeg_quality for name, m in site.deployment.remote.items() if m.jpeg_quality is not None
    }
    if len(set(qualities.values())) > 1:
        wanted = ", ".join(f"{name} {quality}" for name, quality in qualities.items())
        raise InputError(
            f"deployment.remote: placements must send JPEG at the same quality, got {wanted}. A frame is encoded "
            "once, before anybody knows where it goes."
        )
    return next(iter(qualities.values()), None)
