"""The most that any policy can save, and what each placement emits that is never left.

An all-knowing policy takes each moment's cheapest placement. Every cost that a policy can influence is left out: no
queue of its own, no loss recovery, no radio tail. So this is an upper bound; real savings are smaller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..envs.schema import ClosedLoop, PhasedLink, Scenario, Service
from ..envs.service import quantile_table
from ..envs.units import BITS_PER_BYTE
from .breakeven_costs import Account, Radio, Setting, Terms, carbon_mg, node_curve
from .breakeven_world import SEED, World, round_trip_draw

F64 = npt.NDArray[np.float64]
STANDARD_ERRORS = 3.0  # added to what is averaged over moments, so that a bound stays one


@dataclass(frozen=True)
class Saving:
    """The most that any policy can save against always-local, shares of its carbon (upper bounds).

    Attributes:
        any_latency: whatever the SLO.
        no_miss: keeping every request within the SLO that can be.
        budget: spending the misses that the SLO's quantile allows where they save most; at least ``no_miss``.
    """

    any_latency: float
    no_miss: float
    budget: float


@dataclass(frozen=True)
class Fixed:
    """One placement kept for ever, averaged over the moments.

    Attributes:
        name: its name.
        carbon_mg: mean CO2 of a request, mg (radio awake).
        misses_at_least: share of requests that cannot meet the SLO on it; 0 for local, whose queue is not known.
    """

    name: str
    carbon_mg: float
    misses_at_least: float


def moment_costs(
    scenario: Scenario, terms: list[Terms], world: World, account: Account, radio: Radio = "free"
) -> F64:
    """Least CO2 of every placement in every moment (P, N), mg; with ``radio`` awake the steady cost of each."""
    return _costs(terms, moment_setting(scenario, terms, world, radio), account, world)


def _costs(terms: list[Terms], setting: Setting, account: Account, world: World) -> F64:
    shape = world.payload_kb.shape
    return np.stack([np.broadcast_to(carbon_mg(t, setting, account), shape) for t in terms])


def _costs_at_best(
    scenario: Scenario, terms: list[Terms], setting: Setting, account: Account, world: World
) -> F64:
    """Costs over an endless link in the best batch that there can be."""
    endless = replace(setting, rate_mbps=dict.fromkeys(scenario.links, np.inf))
    full = {t.node: 1.0 / t.max_batch for t in terms if t.remote}
    batches = (full, dict.fromkeys(full, 1.0))
    return np.minimum(
        *(_costs(terms, replace(endless, inverse_batch=batch), account, world) for batch in batches)
    )


def _times_are_chosen(scenario: Scenario) -> bool:
    """Whether a policy decides how many requests fall into good times: a closed loop whose link or servers change.

    Averages over time then bound nothing; each moment's grids are kept, with the best batch and link ever.
    """
    if not isinstance(scenario.arrivals, ClosedLoop) or scenario.world_clock == "request":
        return False
    links = (link.source for link in scenario.links.values())
    loads = (node.background for node in scenario.nodes.values() if node.background is not None)
    still = all(isinstance(source, PhasedLink) and len(source.phases) == 1 for source in links)
    return not (still and all(load.phases is not None and len(load.phases) == 1 for load in loads))


def moment_setting(scenario: Scenario, terms: list[Terms], world: World, radio: Radio) -> Setting:
    """The moments as a situation whose values are arrays (N,)."""
    gap = world.gap_ms
    if isinstance(scenario.arrivals, ClosedLoop):  # no sooner than the fastest placement answers
        gap = least_latency(scenario, terms, world).min(axis=0)
    background = {n: np.zeros_like(world.payload_kb) for n in scenario.nodes}
    for name, node in scenario.nodes.items():
        if node.background is not None:
            background[name] = node_curve(scenario, name).at("background_per_ms", world.nodes[name].load)
    return Setting(
        device_g=world.intensity[scenario.device.zone],
        node_g={n: world.intensity[node.zone] for n, node in scenario.nodes.items()},
        network_g={n: world.intensity[link.network_zone] for n, link in scenario.links.items()},
        inverse_batch={n: 1.0 / node.batch for n, node in world.nodes.items()},
        background_per_ms=background,
        payload_kb=world.payload_kb,
        rate_mbps={n: link.rate_mbps for n, link in world.links.items()},
        gap_ms={t.name: gap for t in terms},
        radio=radio,
    )


def least_latency(scenario: Scenario, terms: list[Terms], world: World) -> F64:
    """A latency that no request of each moment can beat (P, N), ms: no own queue, no loss recovery, a cool device."""
    rng = np.random.Generator(np.random.SFC64([SEED, 1]))
    rows = []
    for t, placement in zip(terms, scenario.placements, strict=True):
        served = _service_draw(placement.service, rng, world.payload_kb.size)
        if t.remote:
            link, node = world.links[t.link], world.nodes[t.node]
            sending = t.crossing_kb(world.payload_kb) * BITS_PER_BYTE / link.rate_mbps
            served = served * (1.0 + t.batch_share * (node.batch - 1.0)) + node.wait_ms
            served = served + round_trip_draw(scenario, world, t.link, rng)
            served = served + link.stall_ms + sending + t.extra_rtt_ms
        if placement.split is not None:
            served = served + _service_draw(placement.split.service, rng, world.payload_kb.size)
        rows.append(served)
    return np.stack(rows)


def _service_draw(service: Service, rng: np.random.Generator, count: int) -> F64:
    table = quantile_table(service)
    return table[rng.integers(0, table.size, count)]


def largest_saving(
    scenario: Scenario, terms: list[Terms], world: World, account: Account, latency_ms: F64
) -> Saving:
    """The larger bound of the two parts, with three standard errors of the average added.

    ``latency_ms`` is `least_latency`.
    """
    setting = moment_setting(scenario, terms, world, "free")
    within = latency_ms <= scenario.slo.latency_ms
    costs = _costs(terms, setting, account, world)
    if _times_are_chosen(scenario):
        within[:] = True
        costs = _costs_at_best(scenario, terms, setting, account, world)
    within[0] = True  # local is always allowed
    always_local = _always_local_mg(scenario, terms, world, account)
    kept = np.where(within, costs, np.inf).min(axis=0)
    bounds = []
    for rows in world.parts:
        local, kept_here, free = always_local[rows], kept[rows], costs[:, rows].min(axis=0)
        extra = np.sort(kept_here - free)[::-1]
        spent = extra[: int((1.0 - scenario.slo.quantile) * extra.size)].sum() / extra.size
        budget = min(_share(local, kept_here) + spent / max(local.mean(), 1e-300), _share(local, free))
        bounds.append((_share(local, free), _share(local, kept_here), budget))
    return Saving(*(float(v) for v in np.max(bounds, axis=0)))


def _always_local_mg(scenario: Scenario, terms: list[Terms], world: World, account: Account) -> F64:
    """CO2 of a local request in every moment (N,), mg; in a closed loop at the pace of a hot device."""
    setting, local = moment_setting(scenario, terms, world, "free"), terms[0]
    if isinstance(scenario.arrivals, ClosedLoop):
        setting = replace(setting, gap_ms={local.name: local.service_ms * local.slowdown})
    return np.broadcast_to(carbon_mg(local, setting, account), world.payload_kb.shape)


def _share(local: F64, policy: F64) -> float:
    """Saved share of always-local's carbon plus the guard; a ratio of averages with its standard error."""
    total = local.mean()
    if total <= 0:
        return 0.0
    saved = (local - policy).mean() / total
    error = (local - policy - saved * local).std() / total / np.sqrt(local.size)
    return float(np.clip(saved + STANDARD_ERRORS * error, 0.0, 1.0))


def fixed_placements(
    scenario: Scenario, terms: list[Terms], world: World, account: Account, latency_ms: F64
) -> dict[str, Fixed]:
    """What every placement emits if it is never left, and the misses that it cannot avoid (`least_latency`)."""
    costs = moment_costs(scenario, terms, world, account, radio="awake")
    late = latency_ms > scenario.slo.latency_ms
    return {
        t.name: Fixed(t.name, float(cost.mean()), float(missed.mean()) if t.remote else 0.0)
        for t, cost, missed in zip(terms, costs, late, strict=True)
    }
