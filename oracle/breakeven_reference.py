"""The middle of what a scenario spans: the situation in which tipping values are stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..envs.schema import LOCAL, ClosedLoop, Periodic, Poisson, Scenario
from ..envs.transfer.empirical import jitter_table
from .breakeven_costs import NodeCurve, Radio, Setting, Terms, node_curve
from .breakeven_latency import Tenants, Traffic, mean_latency_ms, tenants
from .breakeven_world import F64, SEED, World, round_trip_draw


class Span(NamedTuple):
    """What a quantity really takes in the scenario.

    Attributes:
        low, middle, high: 5 %, 50 % and 95 % of the moments lie below.
        values: all of them (N,).
    """

    low: float
    middle: float
    high: float
    values: F64

    def share_below(self, value: float) -> float:
        """Share of the moments in which the quantity is below a value."""
        return float((self.values < value).mean())


def span(values: F64) -> Span:
    """The span of moments (N,)."""
    low, middle, high = np.quantile(
        values, (0.05, 0.5, 0.95), method="inverted_cdf"
    )  # infinite ones may lie beside it
    return Span(float(low), float(middle), float(high), values)


@dataclass(frozen=True)
class Site:
    """A scenario made ready for break-even questions.

    Attributes:
        scenario, world: what it is and what it spans.
        terms: constants by placement, in the scenario's order.
        curves, nodes: profile and tenants by node.
        traffic: the middle of everything that latency depends on.
    """

    scenario: Scenario
    world: World
    terms: dict[str, Terms]
    curves: dict[str, NodeCurve]
    nodes: dict[str, Tenants]
    traffic: Traffic
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)  # spans and medians, worked out once

    def over(self, quantity: str, where: str = "") -> Span:
        """What a quantity spans: "batch", "load", "round_trip_ms" of a node, "rate_mbps" of a link, or one of ours."""
        return self._once((quantity, where), lambda: span(self._moments(quantity, where)))

    def _moments(self, quantity: str, where: str) -> F64:
        world = self.world
        if quantity == "rate_mbps":
            return world.links[where].rate_mbps
        if quantity == "round_trip_ms":
            node = self.scenario.nodes[where]
            rng = np.random.Generator(np.random.SFC64([SEED, 2]))
            return round_trip_draw(self.scenario, world, node.link, rng) + node.extra_rtt_ms
        if quantity in ("batch", "load"):
            return getattr(world.nodes[where], quantity)
        return {"payload_kb": world.payload_kb, "arrival_per_s": world.rate_per_s}[quantity]

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def grid(self, terms: Terms) -> F64:
        """Intensity of the grid that a placement computes on, g/kWh (N,)."""
        zone = self.scenario.device.zone if terms.node == LOCAL else self.scenario.nodes[terms.node].zone
        return self.world.intensity[zone]

    def ratio(self, a: Terms, b: Terms) -> Span:
        """Intensity where b computes over the one where a does."""
        return self._once(("ratio", a.node, b.node), lambda: span(_quotient(self.grid(b), self.grid(a))))

    def batch(self, node: str) -> float:
        """Mean batch of a node in the sense of energy: 1 over the mean of 1 / batch."""
        return self._once(
            ("mean batch", node), lambda: float(1.0 / (1.0 / self.world.nodes[node].batch).mean())
        )

    def setting(self, a: Terms, ratios: dict[str, float] | None = None, radio: Radio = "awake") -> Setting:
        """The middle of the site, intensities given as ratios to the one where ``a`` computes.

        Args:
            a: its own grid has its median intensity.
            ratios: node -> ratio, instead of the median one.
            radio: see `Setting`.
        """
        scenario, world = self.scenario, self.world
        base = self.grid(a)
        middle = self._once(("grid", a.node), lambda: float(np.median(base)))

        def relative(zone: str) -> float:
            key = ("relative", world.root[zone], a.node)
            if middle == 0:  # no ratio leads away from a grid without carbon
                return float(np.median(world.intensity[zone]))
            return middle * self._once(key, lambda: float(np.median(_quotient(world.intensity[zone], base))))

        node_g = {n: relative(node.zone) for n, node in scenario.nodes.items()}
        node_g.update({n: middle * r for n, r in (ratios or {}).items()})
        return Setting(
            device_g=relative(scenario.device.zone),
            node_g=node_g,
            network_g={n: relative(link.network_zone) for n, link in scenario.links.items()},
            inverse_batch={n: 1.0 / self.batch(n) for n in scenario.nodes},
            background_per_ms={
                n: float(curve.at("background_per_ms", self.traffic.load[n]))
                for n, curve in self.curves.items()
            },
            payload_kb=float(world.payload_kb.mean()),
            rate_mbps=dict(self.traffic.rate_mbps),
            gap_ms={name: self.gap_ms(t) for name, t in self.terms.items()},
            radio=radio,
        )

    def gap_ms(self, terms: Terms) -> float:
        """Mean time between requests; in a closed loop the placement's own mean latency."""
        if isinstance(self.scenario.arrivals, ClosedLoop):
            return float(mean_latency_ms(terms, self.traffic, self.nodes))
        return float(self.world.gap_ms.mean())


def _quotient(above: F64, below: F64) -> F64:
    """Ratio of intensities; two grids without any carbon are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(above / below, nan=1.0, posinf=np.inf)


def make_site(scenario: Scenario, terms: list[Terms], world: World) -> Site:
    """Work out what the break-even questions need."""
    curves = {n: node_curve(scenario, n) for n in scenario.nodes}
    nodes = {n: tenants(scenario, n, curve) for n, curve in curves.items()}
    return Site(scenario, world, {t.name: t for t in terms}, curves, nodes, _traffic(scenario, world))


def _traffic(scenario: Scenario, world: World) -> Traffic:
    arrivals, payload = scenario.arrivals, scenario.payload
    scv = 1.0 if isinstance(arrivals, Poisson) else 0.0
    if isinstance(arrivals, Periodic):
        scv = arrivals.jitter_fraction**2
    mean_kb = (payload.low_kb + payload.high_kb) / 2
    width = payload.high_kb - payload.low_kb
    tables = {n: jitter_table(link.transfer) for n, link in scenario.links.items()}
    return Traffic(
        rate_per_s=float(world.rate_per_s.mean()),
        arrival_scv=scv,
        payload_kb=mean_kb,
        payload_scv=width**2 / 12 / mean_kb**2 if mean_kb else 0.0,  # uniform
        rate_mbps={n: float(np.median(link.rate_mbps)) for n, link in world.links.items()},
        rtt_ms={
            n: float(np.median(k.rtt_ms + k.jitter_ms * tables[n].mean())) for n, k in world.links.items()
        },
        jitter_ms2={
            n: float((np.median(k.jitter_ms) * tables[n].std()) ** 2) for n, k in world.links.items()
        },
        load={n: float(np.median(node.load)) for n, node in world.nodes.items()},
    )
