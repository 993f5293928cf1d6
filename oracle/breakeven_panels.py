"""The break-even map as numbers: two panels with lines, bars and dots, whoever draws them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .breakeven import BreakEven
from .breakeven_costs import Radio, Terms, carbon_mg
from .breakeven_forms import crossing
from .breakeven_latency import latency_quantile_ms, mean_latency_ms
from .breakeven_reference import Site, Span
from .breakeven_world import F64

BATCHES = 29
RATES = 61
DOTS = 120  # moments shown as dots
LINES = 4  # placements that one panel can hold


@dataclass(frozen=True)
class Line:
    """A line of the map; ``colour`` counts the placements that it belongs to, NaN breaks it."""

    label: str
    x: F64
    y: F64
    colour: int
    dashed: bool


@dataclass(frozen=True)
class Bar:
    """What the site spans along x: 5 %, 50 % and 95 %."""

    label: str
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One panel. The x axis is logarithmic, the y axis is not."""

    title: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    dots: tuple[F64, F64] | None = None
    note: str = ""


def panels(result: BreakEven) -> list[Panel]:
    """The carbon and the latency panel; none where there is no server to compare with the device."""
    site = result.site
    local = next(iter(site.terms.values()))
    remote = [t for t in site.terms.values() if t.remote]
    return [_carbon(site, local, remote), _latency(site, local, remote)] if remote else []


def _carbon(site: Site, local: Terms, remote: list[Terms]) -> Panel:
    top = max(_largest_batch(site, t) for t in remote)
    batch = np.linspace(1.0, max(top, 2), BATCHES)
    groups = _alike(remote, {t.name: ratio_at_batch(site, local, t, batch) for t in remote})
    lines = []
    for colour, (names, x) in enumerate(groups):
        first = site.terms[names.split(", ")[0]]
        lines.append(Line(f"{names}, radio awake" if first.tail_w else names, x, batch, colour, False))
        if first.tail_w:
            asleep = ratio_at_batch(site, local, first, batch, "asleep")
            lines.append(Line(f"{names}, radio asleep", asleep, batch, colour, True))
    bars = [_bar(name, site.ratio(local, t)) for name, t in {t.node: t for t in remote}.items()]
    known = np.concatenate([line.x for line in lines] + [[b.low, b.high] for b in bars])
    known = known[np.isfinite(known) & (known > 0)]
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    return Panel(
        title=f"Carbon: left of its line a server is greener than {local.name}",
        x_label="intensity at the server / intensity at the device",
        y_label="images in a batch",
        x_range=(max(low / 1.5, 1e-3), max(min(high, 1e3) * 1.5, 1.5)),
        y_range=(1.0, float(batch[-1])),
        lines=lines,
        bars=bars,
        note=f"Account: {site.scenario.account}. Above the plot: what the site spans, 5 % to 95 %, dot: median."
        + _batching(remote, top),
    )


def _largest_batch(site: Site, t: Terms) -> int:
    """The largest batch that the node is set up for, whether or not somebody is there to fill it."""
    batching = site.scenario.nodes[t.node].batching
    return 1 if batching is None else batching.max_batch


def _batching(remote: list[Terms], top: int) -> str:
    if top == 1:
        return " No server batches here, so the lines are upright."
    if all(t.max_batch == 1 for t in remote):
        return " Here nobody else uses the servers, so every batch is of 1."
    return ""


def _bar(node: str, over: Span) -> Bar:
    label = f"{node}: always {over.middle:.3g}" if over.low == over.high else f"{node} spans"
    return Bar(label, over.low, over.middle, over.high)


def ratio_at_batch(site: Site, local: Terms, b: Terms, batch: F64, radio: Radio = "awake") -> F64:
    """Intensity ratio at which b and the device tip, for batches (L,); NaN where none does."""
    middle = site.setting(local, radio=radio)
    inverse = {**middle.inverse_batch, b.node: 1.0 / batch}

    def less(ratio: float) -> F64:
        grids = {**middle.node_g, b.node: middle.device_g * np.asarray(ratio)}
        there = replace(middle, inverse_batch=inverse, node_g=grids)
        account = site.scenario.account
        return carbon_mg(b, there, account) - carbon_mg(local, there, account)

    return np.broadcast_to(crossing(less(0.0), less(1.0)), batch.shape).copy()


def _latency(site: Site, local: Terms, remote: list[Terms]) -> Panel:
    links = {t.link: site.over("rate_mbps", t.link) for t in remote}
    low, high = min(s.low for s in links.values()) / 2, max(s.high for s in links.values()) * 2
    rates = np.geomspace(low, high, RATES)
    mean = _alike(remote, {t.name: round_trip_at_rate(site, local, t, rates) for t in remote})
    lines = [
        Line(f"{names}: as fast as {local.name} on average{_nowhere(y)}", rates, y, i, False)
        for i, (names, y) in enumerate(mean)
    ]
    slo = site.scenario.slo
    words = f"p{100 * slo.quantile:g} = {slo.latency_ms:g} ms"
    for names, y in _alike(remote, {t.name: round_trip_of_slo(site, t, rates) for t in remote}):
        colour = next(
            (i for i, (others, _) in enumerate(mean) if names.split(", ")[0] in others.split(", ")), 0
        )
        lines.append(Line(f"{names}: {words}{_nowhere(y)}", rates, y, colour, True))
    first = remote[0]
    count = site.world.payload_kb.size
    some = np.arange(0, count, max(count // DOTS, 1))[:DOTS]
    trips = site.over("round_trip_ms", first.node).values[some]
    tops = [float(np.nanmax(line.y)) for line in lines if np.isfinite(line.y).any()]
    top = 1.1 * max([*tops, float(np.quantile(trips, 0.9)), 10.0])
    return Panel(
        title="Latency: below its line a server is fast enough",
        x_label="rate of the link, Mbit/s",
        y_label="round trip, ms",
        x_range=(low, high),
        y_range=(0.0, top),
        lines=lines,
        dots=(site.world.links[first.link].rate_mbps[some], trips),
        note=f"Dots: moments of the site, to {first.node}. Lines: median load, no loss, no stall.",
    )  # fmt: skip


def round_trip_at_rate(site: Site, local: Terms, b: Terms, rates_mbps: F64) -> F64:
    """Round trip up to which b is faster than the device on average (L,), ms; NaN where none is short enough."""
    there = replace(site.traffic, rate_mbps={**site.traffic.rate_mbps, b.link: rates_mbps})
    own = mean_latency_ms(local, there, site.nodes)
    with np.errstate(invalid="ignore"):
        spare = own - mean_latency_ms(b, there, site.nodes)
    return _positive(spare + site.traffic.rtt_ms[b.link] + b.extra_rtt_ms)


def round_trip_of_slo(site: Site, b: Terms, rates_mbps: F64) -> F64:
    """Round trip up to which b's latency quantile keeps the objective (L,), ms; NaN where none is short enough."""
    slo = site.scenario.slo
    there = replace(site.traffic, rate_mbps={**site.traffic.rate_mbps, b.link: rates_mbps})
    spare = slo.latency_ms - latency_quantile_ms(b, there, site.nodes, slo.quantile)
    return _positive(spare + site.traffic.rtt_ms[b.link] + b.extra_rtt_ms)


def _positive(values: F64) -> F64:
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _nowhere(y: F64) -> str:
    return "" if np.isfinite(y).any() else " (nowhere)"


def _alike(remote: list[Terms], curves: dict[str, F64]) -> list[tuple[str, F64]]:
    """Placements that share a line (within 3 %) under one label, the first few of them."""
    groups: list[tuple[str, F64]] = []
    for t in remote:
        curve = curves[t.name]
        for i, (names, known) in enumerate(groups):
            if np.allclose(curve, known, rtol=0.03, equal_nan=True):
                groups[i] = (f"{names}, {t.name}", known)
                break
        else:
            groups.append((t.name, curve))
    return groups[:LINES]
