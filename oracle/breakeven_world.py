"""What a scenario really spans: many single moments of its world, drawn as tapes draw theirs, and exact bounds.

A moment holds what one request can meet: an intensity of each zone, round trip and rate of each link, load of each
node with the batch and wait that its tenants then cause, a payload. No request is placed and no time passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.generate_zones import load_zone_region
from ..envs.link_sources import draw_link
from ..envs.node_bank import bank_for
from ..envs.node_loads import draw_load
from ..envs.schema import (
    Background,
    ClosedLoop,
    ConstantZone,
    GeneratedZone,
    LinkPhase,
    LoadPhase,
    Node,
    PhasedLink,
    Poisson,
    SameZone,
    Scenario,
    TraceArrivals,
)  # fmt: skip
from ..envs.service import mean_ms
from ..envs.streams import Stream, episode_keys, mix64, salt
from ..envs.tape import Part
from ..envs.transfer.empirical import jitter_table
from ..envs.units import MS_PER_S
from ..envs.zone_sources import draw_zones

F64 = npt.NDArray[np.float64]
PARTS: tuple[Part, Part] = ("training", "evaluation")
MOMENTS = 16_384  # of each part
SETTLED_ROWS = 40  # seconds until a load that wanders has forgotten its start
LOAD_ROWS = 8  # seconds of each walk that are moments
SEED = 0


@dataclass(frozen=True)
class LinkMoments:
    """One link (N,): the second's round trip, its jitter's scale (ms), rate (Mbit/s), what is left of a stall (ms)."""

    rtt_ms: F64
    jitter_ms: F64
    rate_mbps: F64
    stall_ms: F64


@dataclass(frozen=True)
class NodeMoments:
    """One node: load by the other tenants, the batch and the wait they cause (ms), all (N,)."""

    load: F64
    batch: F64
    wait_ms: F64


@dataclass(frozen=True)
class World:
    """N moments, the first half of the training, the second of the evaluation part.

    Attributes:
        intensity: zone -> g/kWh (N,); zones that are the same hold the same values.
        bounds: zone -> lowest and highest g/kWh that can ever occur; (0, inf) where only a recording knows.
        root: zone -> the zone that it is the same as, or itself.
        links, nodes: by name.
        payload_kb, rate_per_s: request size and arrival rate (N,); the rate is 0 in a closed loop.
        gap_ms: time since the request before (N,); NaN in a closed loop, where it is a latency.
    """

    intensity: dict[str, F64]
    bounds: dict[str, tuple[float, float]]
    root: dict[str, str]
    links: dict[str, LinkMoments]
    nodes: dict[str, NodeMoments]
    payload_kb: F64
    rate_per_s: F64
    gap_ms: F64

    @property
    def parts(self) -> tuple[slice, slice]:
        """Rows of the training and of the evaluation part."""
        half = self.payload_kb.size // 2
        return slice(0, half), slice(half, None)


def draw_world(scenario: Scenario, traces_dir: str | Path | None = None, moments: int = MOMENTS) -> World:
    """Draw the moments of both parts; always the same for the same scenario.

    Raises:
        InputError: the scenario reads traces and no folder was given, or a file is missing.
    """
    folder = None if traces_dir is None else Path(traces_dir)
    parts = [_draw_part(scenario, part, folder, moments) for part in PARTS]
    root = {n: z.zone if isinstance(z, SameZone) else n for n, z in scenario.zones.items()}
    return World(
        bounds={name: _bounds(scenario, root[name]) for name in scenario.zones}, root=root, **_joined(parts)
    )


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts' arrays end to end, whatever they are nested in."""

    def join(values: list) -> Any:
        first = values[0]
        if isinstance(first, dict):
            return {key: join([v[key] for v in values]) for key in first}
        if isinstance(first, (LinkMoments, NodeMoments)):
            return type(first)(**join([vars(v) for v in values]))
        return np.concatenate(values)

    return join(parts)


def _draw_part(scenario: Scenario, part: Part, folder: Path | None, count: int) -> dict[str, Any]:
    keys = mix64(episode_keys(np.arange(count) + SEED) ^ salt(part))
    rng = np.random.Generator(np.random.SFC64([SEED, int(salt(part))]))
    when = rng.uniform(0.0, _length(scenario), count)  # in rows of the world's clock
    zones = draw_zones(scenario, keys, 1, part, folder)
    payload = scenario.payload
    rate, gap = _arrivals(scenario, rng, count)
    return {
        "intensity": {name: truth[0].astype(np.float64) for name, (truth, _) in zones.items()},
        "links": {n: _link(scenario, n, keys, when, part, folder, rng) for n in scenario.links},
        "nodes": {name: _node(name, node, keys, when, rng) for name, node in scenario.nodes.items()},
        "payload_kb": rng.uniform(payload.low_kb, payload.high_kb, count),
        "rate_per_s": rate,
        "gap_ms": gap,
    }


def _length(scenario: Scenario) -> float:
    """Rows that an episode lasts; in a closed loop as long as the device alone would take."""
    if scenario.world_clock == "request":
        return scenario.episode.requests
    return scenario.episode.requests / mean_rate(scenario, mean_ms(scenario.placements[0].service))


def mean_rate(scenario: Scenario, latency_ms: float) -> float:
    """Mean arrivals a second; a closed loop sends one as soon as one is answered."""
    arrivals = scenario.arrivals
    if isinstance(arrivals, ClosedLoop):
        return MS_PER_S / latency_ms
    if isinstance(arrivals, TraceArrivals):
        return arrivals.mean_per_s
    return (arrivals.low_per_s + arrivals.high_per_s) / 2


def _arrivals(scenario: Scenario, rng: np.random.Generator, count: int) -> tuple[F64, F64]:
    """Arrival rate and the gap before a request; a recording's gaps are taken as even."""
    arrivals = scenario.arrivals
    if isinstance(arrivals, ClosedLoop):
        return np.zeros(count), np.full(count, np.nan)
    if isinstance(arrivals, TraceArrivals):
        return np.full(count, arrivals.mean_per_s), np.full(count, MS_PER_S / arrivals.mean_per_s)
    rate = rng.uniform(arrivals.low_per_s, arrivals.high_per_s, count)
    if isinstance(arrivals, Poisson):
        return rate, MS_PER_S / rate * rng.exponential(size=count)
    noise = np.clip(rng.normal(size=count), -1.9, 1.9)  # as envs/tape.py draws gaps
    return rate, MS_PER_S / rate * (1.0 + arrivals.jitter_fraction * noise)


def _link(
    scenario: Scenario, name: str, keys: np.ndarray, when: F64, part: Part, folder: Path | None,
    rng: np.random.Generator,
) -> LinkMoments:  # fmt: skip
    link = scenario.links[name]
    if isinstance(link.source, PhasedLink):
        phase = _phase(link.source.phases, when)
        rtt, jitter, rate = (
            np.array([getattr(p, key) for p in link.source.phases])[phase]
            for key in ("rtt_ms", "jitter_ms", "rate_mbps")
        )
        stall = np.zeros(when.size)
    else:
        drawn = draw_link(link.source, Stream(keys, f"link:{name}"), 1, 0, part, folder)
        rtt, jitter, rate = (
            v[0].astype(np.float64) for v in (drawn.world.rtt_ms, drawn.world.jitter_ms, drawn.rate_mbps)
        )
        stall = np.where(drawn.world.blocked[0], rng.uniform(0.0, MS_PER_S, when.size), 0.0)
    return LinkMoments(rtt, jitter, rate, stall)


def round_trip_draw(scenario: Scenario, world: World, link: str, rng: np.random.Generator) -> F64:
    """Round trips of one request in every moment (N,), ms: every request draws its own jitter."""
    there = world.links[link]
    table = jitter_table(scenario.links[link].transfer).astype(np.float64)
    return np.maximum(there.rtt_ms + there.jitter_ms * rng.choice(table, there.rtt_ms.size), 0.0)


def _node(name: str, node: Node, keys: np.ndarray, when: F64, rng: np.random.Generator) -> NodeMoments:
    if node.background is None:  # nobody to share a batch with, nobody to wait for
        return NodeMoments(np.zeros(when.size), np.ones(when.size), np.zeros(when.size))
    load, bank = _load(name, node.background, keys, when), bank_for(node)
    level, tick = bank.level_of(load), rng.integers(0, bank.ticks, when.size)
    return NodeMoments(
        load.astype(np.float64),
        bank.batch_size[level, tick].astype(np.float64),
        bank.wait_ms[level, tick].astype(np.float64),
    )


def _load(name: str, background: Background, keys: np.ndarray, when: F64) -> npt.NDArray:
    if background.phases is not None:
        return np.array([p.load for p in background.phases])[_phase(background.phases, when)]
    few = keys[
        : -(-keys.size // LOAD_ROWS)
    ]  # several seconds of the same walk: a walk costs as many steps as it is long
    walks = draw_load(background, Stream(few, f"load:{name}"), SETTLED_ROWS + LOAD_ROWS, 0)
    return walks[SETTLED_ROWS:].ravel()[: keys.size]


def _phase(phases: list[LinkPhase] | list[LoadPhase], when: F64) -> npt.NDArray[np.int64]:
    ends = np.array([np.inf if p.until is None else p.until for p in phases])
    return np.minimum(np.searchsorted(ends, when, side="right"), len(phases) - 1)


def _bounds(scenario: Scenario, root: str) -> tuple[float, float]:
    zone = scenario.zones[root]
    if isinstance(zone, ConstantZone):
        return zone.carbon_g_per_kwh, zone.carbon_g_per_kwh
    if isinstance(zone, GeneratedZone):  # the generator clips to these
        regions = [load_zone_region(name) for name in zone.regions]
        return min(r.lowest_g_per_kwh for r in regions), max(r.highest_g_per_kwh for r in regions)
    return 0.0, math.inf
