"""From a run to a tape: real arrivals, payloads, links, loads and grids, and many draws of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs.absence import always_absent, links_in_use, zones_in_use
from ...envs.link_sources import blocked_until_ms
from ...envs.node_bank import TICK_MS
from ...envs.records import NOISE_BITS
from ...envs.schema import LOCAL, Episode, Payload, Periodic, Scenario
from ...envs.simulator import site_for
from ...envs.site import Site
from ...envs.tape import Tape
from ...envs.units import MG_PER_J_PER_G_PER_KWH, ms_per_kb
from .conditions import Condition
from .link_truth import LinkTruth, link_truth, unused_link
from .served import Served
from .world import World

TAIL_ROWS = 3  # beyond the last request, as a drawn tape has
_ANY_RATE = Periodic(kind="periodic", low_per_s=1.0, high_per_s=1.0, jitter_fraction=0.0)


@dataclass(frozen=True)
class RecordedTape:
    """A stretch of a run, ready to be played.

    Attributes:
        scenario: the site's, with as many requests as there are and their largest payload.
        tape: B episodes that differ in their noise only.
        actions: placements really taken (N,).
        links: what each link was taken to be.
        unknown: what the log does not say and was taken as none: loads of nodes.
        carbon_known: whether every grid's intensity was known all the time.
    """

    scenario: Scenario
    tape: Tape
    actions: npt.NDArray[np.int64]
    links: dict[str, LinkTruth]
    unknown: list[str]
    carbon_known: bool


def replay_scenario(scenario: Scenario, requests: int, payload_kb: npt.NDArray[np.float64]) -> Scenario:
    """The site's scenario for a tape whose arrivals and payloads are given.

    The physics looks payloads up in a table that reaches to the scenario's largest, so it must hold the log's.
    """
    low, high = float(payload_kb.min()), float(payload_kb.max())
    payload = Payload(low_kb=min(scenario.payload.low_kb, low), high_kb=max(scenario.payload.high_kb, high))
    changes = {"episode": Episode(requests=requests), "payload": payload, "arrivals": _ANY_RATE}
    return scenario.model_copy(update={**changes, "world_clock": "time"})


def tape_of_log(
    scenario: Scenario,
    requests: Served,
    world: World,
    stretches: list[Condition],
    draws: int,
    seed: Sequence[int],
    where: str,
) -> RecordedTape:
    """Build the tape.

    Args:
        scenario: the site's.
        requests: what was served, in time.
        world: the same time, second by second, beginning at the first request.
        stretches: its conditions.
        draws: episodes B; each has noise of its own.
        seed: of the noise; another one for each tape, or runs would share their luck.
        where: name of the log, for messages.
    """
    count = len(requests)
    scenario = replay_scenario(scenario, count, requests.payload_kb)
    site = site_for(scenario)
    used, gone = links_in_use(scenario), always_absent(scenario)
    links = {
        name: link_truth(name, link, world.links[name], stretches, where)
        if name in used
        else unused_link(world.seconds, len(stretches))
        for name, link in scenario.links.items()
    }
    shown = [n for n, node in scenario.nodes.items() if node.background is not None and n not in gone]
    unknown = [n for n in shown if n not in world.loads or np.isnan(world.loads[n]).any()]
    there = np.array([p.node not in gone for p in scenario.placements])
    rng = np.random.default_rng(seed)
    shape = (count + 1, len(scenario.placements), draws)
    arrivals = requests.arrival_ms - world.start_ms
    tape = Tape(
        rows=_rows(site, world, links, draws),
        arrivals_ms=_columns(np.append(arrivals, arrivals[-1]), draws).astype(np.float64),
        payload_kb=_columns(np.append(requests.payload_kb, requests.payload_kb[-1]), draws),
        words=rng.integers(0, 1 << NOISE_BITS, shape, dtype=np.uint32),
        phase_ms=_phases(site, draws, rng),
        ambient=np.zeros(draws),
        valid_rows=np.full(draws, world.seconds + TAIL_ROWS),
        warmup=0,
        allowed=_columns(there, draws) if gone else None,
    )
    zones = (world.zones.get(zone) for zone in zones_in_use(scenario))
    known = all(values is not None and not np.isnan(values).any() for values in zones)
    return RecordedTape(scenario, tape, requests.placement, links, unknown, known)


def _columns(values: npt.NDArray, draws: int) -> npt.NDArray[Any]:
    """The same for every draw (N, B)."""
    return np.repeat(values[:, None], draws, axis=1)


def _phases(site: Site, draws: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Where each node's history starts (K, B), ms."""
    ticks = np.array([1.0] + [float(b.ticks) for b in site.banks[1:] if b is not None])
    return rng.random((len(ticks), draws)) * (ticks * TICK_MS)[:, None]


def _rows(site: Site, world: World, links: dict[str, LinkTruth], draws: int) -> npt.NDArray[np.float32]:
    """The truth rows (R, S, B); what telemetry would show is left out, since nobody decides anew."""
    scenario, layout = site.scenario, site.rows
    rows = np.zeros((layout.count, world.seconds + TAIL_ROWS, draws), dtype=np.float32)

    def put(row: str, values: npt.NDArray) -> None:
        rows[layout[row]] = np.append(values, np.repeat(values[-1:], TAIL_ROWS))[:, None]

    # Nobody draws power in the zones that nothing but absent nodes need, and a run does not ask for them.
    unused = np.zeros(world.seconds)
    grids = {z: np.nan_to_num(world.zones.get(z, unused)) * MG_PER_J_PER_G_PER_KWH for z in scenario.zones}
    for (name, link), transfer in zip(links.items(), site.transfers, strict=True):
        put(f"{name}:rtt_ms", link.rtt_ms)
        put(f"{name}:jitter_ms", link.jitter_ms)
        put(f"{name}:ms_per_kb", ms_per_kb(link.rate_mbps))
        blocked = link.blocked[:, None]
        put(f"{name}:blocked_until_ms", blocked_until_ms(blocked, 0)[:, 0])
        if transfer is not None:
            # In single precision, as drawn tapes are: a loss of 0.1 % lies on the edge of two bins.
            path = (np.float32(v) for v in (link.loss, link.rate_mbps, link.rtt_ms))
            put(f"{name}:path", transfer.path_bin(*path))
        put(f"{name}:network_carbon_mg_per_j", grids[scenario.links[name].network_zone])
    put(f"{LOCAL}:carbon_mg_per_j", grids[scenario.device.zone])
    for (name, node), bank in zip(scenario.nodes.items(), site.banks[1:], strict=True):
        if bank is not None and name in world.loads:
            put(f"{name}:level", bank.level_of(np.nan_to_num(world.loads[name])))
        put(f"{name}:carbon_mg_per_j", grids[node.zone])
    return rows
