"""``carbonpilot traces fit``: fit all generators to the recordings and write YAML files and a page."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .errors import InputError
from .files import atomic_write_text
from .fit_links import describe, fit_family
from .fit_page import COMMAND, Comparison, write_page
from .fit_samples import LinkSample, link_sample
from .fit_sources import CAPACITY_FILES, LINK_SOURCES
from .fit_zones import ZONE_SOURCES, describe_hours, fit_region, zone_hours
from .generate_links import draw_from_bank as draw_links
from .generate_links import link_bank
from .generate_zones import ZoneParameters, zone_bank
from .generate_zones import draw_from_bank as draw_zones
from .link_parameters import LinkParameters
from .streams import Stream, episode_keys
from .units import HOURS_PER_YEAR
from .validation import validated
from .world_types import LinkWorld

EPISODES, EPISODE_S = 8192, 120  # generated for the comparison
YEARS = 8
_CAPACITY_CREDIT = "ravinet/mahimahi, Winstein et al. 2013, GPL-3.0 (only numbers fitted to it are here)"


def fit_command(traces_dir: str | Path, out_dir: str | Path, docs_dir: str | Path | None = None) -> int:
    """Fit, write and print how well it fits.

    Args:
        traces_dir: folder with ``grid/`` and ``network/``.
        out_dir: folder that gets ``links/*.yaml`` and ``zones/*.yaml``.
        docs_dir: folder that gets ``generators.md`` and ``images/*.png``; none: no page.

    Returns:
        Exit code 0; anything wrong is raised.
    """
    report = fit_generators(traces_dir, out_dir, docs_dir)
    for kind, keys in (
        ("links", ("rtt_p50_ms", "rtt_p95_ms")),
        ("zones", ("p50_g_per_kwh", "p95_g_per_kwh")),
    ):
        print(f"{kind}: recorded / generated {', '.join(keys)}")
        for name, entry in report[kind].items():
            pairs = [f"{entry['fitted'][k]:8.1f} / {entry['generated'][k]:8.1f}" for k in keys]
            print(f"  {name:<12} {'   '.join(pairs)}")
    print("\n".join(f"wrote {path}" for path in report["files"]))
    return 0


def fit_generators(
    traces_dir: str | Path, out_dir: str | Path, docs_dir: str | Path | None = None
) -> dict[str, Any]:
    """Fit every link family and grid region; nothing is written unless all fits succeed.

    Returns:
        links and zones: name -> {fitted, generated, check} -> statistics; files: what was written.

    Raises:
        InputError: the trace folder or a file in it is missing.
        TraceError: a trace is broken.
    """
    folder = Path(traces_dir)
    if not folder.is_dir():
        raise InputError(f"There is no trace folder {folder}. Give the folder that holds grid/ and network/.")
    links = {name: fit_family(name, folder) for name in LINK_SOURCES}
    zones = {name: fit_region(name, folder) for name in ZONE_SOURCES}
    link_pages = [compare_link(validated(LinkParameters, d, n), folder) for n, d in links.items()]
    zone_pages = [compare_zone(validated(ZoneParameters, d, n), folder) for n, d in zones.items()]
    files = [_write(Path(out_dir) / "links" / f"{n}.yaml", d, _link_comment(n)) for n, d in links.items()]
    files += [_write(Path(out_dir) / "zones" / f"{n}.yaml", d, _zone_comment(n)) for n, d in zones.items()]
    if docs_dir is not None:
        files += write_page(link_pages, zone_pages, Path(docs_dir))
    return {
        "links": {c.name: c.described for c in link_pages},
        "zones": {c.name: c.described for c in zone_pages},
        "files": [str(f) for f in files],
    }


def compare_link(parameters: LinkParameters, folder: Path) -> Comparison:
    """A family's recordings beside what it generates."""
    source = LINK_SOURCES[parameters.name]
    stream = Stream(episode_keys(np.arange(EPISODES)), "fit:link")
    samples = {
        "fitted": link_sample(folder, source.fitted, source.piece_s),
        "generated": as_sample(draw_links(link_bank((parameters,)), [1.0], stream, EPISODE_S)),
        "check": link_sample(folder, source.check, source.piece_s),
    }
    described = {key: describe(sample, ()) for key, sample in samples.items()}
    return Comparison(parameters.name, described, {key: s.rtt_ms for key, s in samples.items()})


def as_sample(world: LinkWorld) -> LinkSample:
    """A generated world as if it had been recorded, an episode a segment."""
    seconds, batch = world.rtt_ms.shape
    episode = np.repeat(np.arange(batch), seconds)
    blocked = world.blocked.T.ravel()
    rtt, loss = world.rtt_ms.T.ravel().astype(np.float64), world.loss.T.ravel().astype(np.float64)
    return LinkSample(episode, episode, np.where(blocked, np.nan, rtt), loss, np.zeros(rtt.size), blocked)


def compare_zone(parameters: ZoneParameters, folder: Path) -> Comparison:
    """A region's recordings beside what it generates for the same hours of the year."""
    fitted, check = zone_hours(parameters.name, folder)
    stream = Stream(episode_keys(np.arange(YEARS)), "fit:zone")
    made, _ = draw_zones(zone_bank((parameters,)), stream, np.zeros(YEARS, dtype=np.int64), fitted.size)
    values = {"fitted": fitted, "generated": made.astype(np.float64), "check": check}
    return Comparison(parameters.name, {k: describe_hours(v) for k, v in values.items()}, values)


def _link_comment(name: str) -> list[str]:
    source = LINK_SOURCES[name]
    return [
        f"RTT, loss and stalls: {source.credit}.",
        f"Fitted to {', '.join(source.fitted)} (@ is the span of rows).",
        f"Uplink shape: {_CAPACITY_CREDIT}: {', '.join(CAPACITY_FILES)}; that it holds here is assumed.",
        "Tables *_ms, rtt_multiple and rate_shape: values at the normal scores -3, -2.75 ... 3; "
        "loss_fraction: quantiles 0, 0.1 ... 1. rate_multiple: assumed.",
    ]


def _zone_comment(name: str) -> list[str]:
    source = ZONE_SOURCES[name]
    return [
        f"{source.credit}.",
        f"Fitted to the first {source.fitted_hours} hours of {source.file} ({HOURS_PER_YEAR} are a year).",
        "Lists of 24: hours 0 to 23 UTC. residual_g_per_kwh: values at the normal scores -3, -2.75 ... 3.",
    ]


def _write(path: Path, content: dict[str, Any], comment: list[str]) -> Path:
    notes = [f"Made by: {COMMAND}", "Do not edit: change the fit and run it again.", *comment]
    lines = [f"# {line}" for note in notes for line in textwrap.wrap(note, 106, break_on_hyphens=False)]
    body = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=108)
    atomic_write_text(path, "\n".join(lines) + "\n" + body)
    return path
