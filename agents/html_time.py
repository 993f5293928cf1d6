"""Placements over the course of an episode, above them what the device saw of round-trip times and intensities."""

from __future__ import annotations

import html

import numpy as np
import numpy.typing as npt

from .benchmark_result import BenchmarkResult
from .comparison import opponent
from .html_svg import WIDTH, Frame, Picture, linear, shortened, ticks
from .observed_world import DEVICE, ObservedWorld, over_time
from .policy_result import PolicyResult, SeedGroup

F64 = npt.NDArray[np.float64]
Placements = npt.NDArray[np.int8]

COLOURS = 8  # the style has so many colours for placements; more of them repeat, hatched
LEFT, RIGHT = 40.0, WIDTH - 20
DASHES = ("none", "7 3", "2 2.5", "11 3 2 3")
MOST = 7  # policies of one picture


def shown_policies(result: BenchmarkResult) -> list[PolicyResult]:
    """Learned ones, their opponent and hindsight first, then other rules; what never changes is left out."""
    first = [*result.contenders[:3], *(r for r in (opponent(result), result.oracle) if r is not None)]
    others = [r for r in result.ranked() if r.kind == "rule"]
    names = {r.name: r for r in [*first, *others] if r.kind != "static"}
    return list(names.values())[:MOST]


def _single(result: BenchmarkResult) -> list[tuple[PolicyResult, Placements]]:
    """The same with their placements; of a group its first seed."""
    found = []
    for policy in shown_policies(result):
        one = result[policy.members[0]] if isinstance(policy, SeedGroup) else policy
        if one.placement is not None:
            found.append((one, one.placement))
    return found


def all_tapes(result: BenchmarkResult) -> str:
    """Shares over all episodes; the world as median and the span of eight episodes in ten."""
    policies = shown_policies(result)
    bins = len(result.results[0].time)
    shares = [(p, p.time_shares) for p in policies]
    return _picture(result, f"Placements over time, mean of {result.episodes} tapes", shares, bins, None)


def one_tape(result: BenchmarkResult, episode: int) -> str:
    """Where each policy sent the requests of a single episode."""
    bins = min(100, result.scenario.episode.requests)
    count = len(result.scenario.placements)
    shares = [(p, _binned(chosen[:, episode], count, bins)) for p, chosen in _single(result)]
    return _picture(result, f"Placements over time on tape {episode + 1}", shares, bins, episode)


def most_disputed(result: BenchmarkResult) -> int:
    """The episode on which the policies shown, taken two by two, place most requests differently."""
    kept = [chosen for _, chosen in _single(result)]
    pairs = [(a != b).mean(axis=0) for i, a in enumerate(kept) for b in kept[:i]]
    return int(np.sum(pairs, axis=0).argmax()) if pairs else 0


def _binned(placement: Placements, count: int, bins: int) -> F64:
    """Share of each placement in consecutive stretches of one episode (P, T); NaN after its end."""
    edges = np.unique(np.linspace(0, len(placement), bins + 1).astype(np.int64))
    hits = np.stack([placement == p for p in range(count)]).astype(np.float64)
    binned = np.add.reduceat(hits, edges[:-1], axis=1)
    total = binned.sum(axis=0)
    return np.divide(binned, total, out=np.full_like(binned, np.nan), where=total > 0)


def _picture(
    result: BenchmarkResult,
    title: str,
    shares: list[tuple[PolicyResult, F64]],
    bins: int,
    episode: int | None,
) -> str:
    requests = result.scenario.episode.requests
    top = 24.0
    world = result.world
    panels = [] if world is None else _panels(result, world, bins, episode)
    height = 24 + 112 * len(panels) + 44 * len(shares) + 40
    picture = Picture(title, height)
    for name, lines in panels:
        _panel(picture, name, lines, requests, top, top + 76)
        top += 112
    top -= 8 if panels else 0
    for policy, share in shares:
        picture.text(LEFT, top, shortened(policy.name), "strong" if policy.kind == "learned" else "")
        _strip(picture, share, requests, top + 5, top + 31)
        top += 44
    frame = Frame(LEFT, top - 13, RIGHT, top - 13, linear(0, requests), linear(0, 1))
    for t in ticks(0, requests):
        picture.text(frame.at(t, 0)[0], top + 4, f"{t:g}", "tick", "middle")
    picture.text((LEFT + RIGHT) / 2, top + 22, "request", "axis", "middle")
    return picture.svg()


# What a panel draws: colour, dashes, middle line (T,) and the span around it (2, T) or None.
PanelLine = tuple[str, str, F64, F64 | None]


def _panels(
    result: BenchmarkResult, world: ObservedWorld, bins: int, episode: int | None
) -> list[tuple[str, list[PanelLine]]]:
    rtt = [
        _world_line(values, bins, episode, "--ink", DASHES[i % len(DASHES)])
        for i, values in enumerate(world.rtt_ms.values())
    ]
    grids = [
        _world_line(values, bins, episode, site_colour(result, site), DASHES[i % len(DASHES)])
        for i, (site, values) in enumerate(world.carbon_g_per_kwh.items())
    ]
    panels = [("round-trip time as probed, ms", rtt), ("grid intensity as shown, g/kWh", grids)]
    return [(name, lines) for name, lines in panels if lines]


def _world_line(
    values: npt.NDArray[np.float32], bins: int, episode: int | None, colour: str, dashes: str
) -> PanelLine:
    if episode is not None:
        return colour, dashes, over_time(values[:, episode : episode + 1], bins, (0.5,))[0], None
    low, middle, high = over_time(values, bins, (0.1, 0.5, 0.9))
    return colour, dashes, middle, np.stack([low, high])


def site_colour(result: BenchmarkResult, site: str) -> str:
    """The colour of a node's first placement, so that its grid and its requests match."""
    node = "local" if site == DEVICE else site
    index = next((i for i, p in enumerate(result.scenario.placements) if p.node == node), 0)
    return f"--p{index % COLOURS}"


def _panel(
    picture: Picture,
    name: str,
    lines: list[PanelLine],
    requests: int,
    top: float,
    bottom: float,
) -> None:
    known = np.concatenate([line[2] if line[3] is None else line[3].ravel() for line in lines])
    highest = float(np.nanmax(known)) if np.isfinite(known).any() else 1.0
    frame = Frame(LEFT, top, RIGHT, bottom, linear(0, requests), linear(0, 1.05 * max(highest, 1e-9)))
    picture.y_axis(frame, [(t, f"{t:g}") for t in ticks(0, highest, 3)], "")
    picture.text(LEFT, top - 8, name, "axis")
    for colour, dashes, middle, span in lines:
        if span is not None and len(lines) == 1:
            picture.area(_span(frame, span, requests), "band")
        points = _points(frame, middle, requests)
        picture.line(points, "curve", f"stroke:var({colour});stroke-dasharray:{dashes}")


def _points(frame: Frame, values: F64, requests: int) -> list[tuple[float, float]]:
    middles = (np.arange(len(values)) + 0.5) * requests / len(values)
    return [frame.at(float(x), float(v)) for x, v in zip(middles, values, strict=True) if np.isfinite(v)]


def _span(frame: Frame, span: F64, requests: int) -> list[tuple[float, float]]:
    return _points(frame, span[0], requests) + _points(frame, span[1], requests)[::-1]


def _strip(picture: Picture, share: F64, requests: int, top: float, bottom: float) -> None:
    """Stacked shares of the placements, local at the bottom, as one step-shaped area each."""
    frame = Frame(LEFT, top, RIGHT, bottom, linear(0, requests), linear(0, 1))
    edges = np.linspace(0, requests, share.shape[1] + 1)
    upto = np.concatenate([np.zeros((1, share.shape[1])), np.nan_to_num(share).cumsum(axis=0)])
    for p in range(len(share)):
        if not np.nan_to_num(share[p]).any():
            continue
        upper, lower = _steps(frame, edges, upto[p + 1]), _steps(frame, edges, upto[p])
        outline = upper + lower[::-1]
        picture.area(outline, "", f"fill:var(--p{p % COLOURS})")
        if hatched(p):
            picture.area(outline, "hatched")
    picture.box(LEFT, top, RIGHT - LEFT, bottom - top, "edge")


def _steps(frame: Frame, edges: F64, heights: F64) -> list[tuple[float, float]]:
    points = []
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        points += [frame.at(float(left), float(height)), frame.at(float(right), float(height))]
    return points


def hatched(placement: int) -> bool:
    """Every second placement is hatched, and the colours' second round the other way, for more than colour."""
    return placement % 2 == (1 if placement < COLOURS else 0)


def placement_legend(result: BenchmarkResult) -> str:
    """The key of the placements' colours, and of the lines of links and grids."""
    items = []
    for i, placement in enumerate(result.scenario.placements):
        over = '<rect width="28" height="12" class="hatched"/>' if hatched(i) else ""
        items.append(
            f'<li><svg viewBox="0 0 28 12" aria-hidden="true"><rect width="28" height="12" '
            f'style="fill:var(--p{i % COLOURS})"/>{over}</svg>{html.escape(placement.name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def world_legend(result: BenchmarkResult) -> str:
    """The key of the lines of links and grids."""
    if result.world is None:
        return ""
    links = [(f"RTT of {name}", "--ink") for name in result.world.rtt_ms]
    grids = [(f"grid of {name}", site_colour(result, name)) for name in result.world.carbon_g_per_kwh]
    items = [
        f'<li><svg viewBox="0 0 28 12" aria-hidden="true"><line x1="0" y1="6" x2="28" y2="6" class="curve" '
        f'style="stroke:var({colour});stroke-dasharray:{DASHES[i % len(DASHES)]};stroke-width:2.5"/></svg>'
        f"{html.escape(name)}</li>"
        for group in (links, grids)
        for i, (name, colour) in enumerate(group)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'
