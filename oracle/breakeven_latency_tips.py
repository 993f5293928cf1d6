"""Where latency tips: against the other placement on average, and against the objective in the tail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..envs.queueing import Values
from ..envs.units import BITS_PER_BYTE, MS_PER_S
from .breakeven_costs import Terms
from .breakeven_forms import load_for_wait, sending_for_sojourn_ms
from .breakeven_latency import (
    Traffic,
    head_ms,
    latency_quantile_ms,
    mean_latency_ms,
    network_ms,
    service_ms,
)
from .breakeven_pairs import Tip, make_tip
from .breakeven_reference import Site, Span
from .breakeven_roots import scan_root
from .breakeven_world import F64

RATES_MBPS = (0.01, 1e5)
TOP_LOAD = 0.999


def latency_tips(site: Site, a: Terms, b: Terms) -> list[Tip]:
    """Where the mean latency of a pair tips; b is remote, a is the device or another server."""
    traffic = site.traffic
    own, other = (float(mean_latency_ms(t, traffic, site.nodes)) for t in (a, b))
    tips = []
    if b.node != a.node:
        away = float(traffic.rtt_ms[b.link]) + b.extra_rtt_ms
        distance = away + float(_less(own, other))  # latency is linear in the distance
        over = site.over("round_trip_ms", b.node)
        tips.append(
            _tip(
                "round_trip_ms",
                "ms",
                distance if distance > 0 else np.nan,
                b,
                a,
                over,
                b.name if own > other else a.name,
            )
        )
        tips += _load_tip(site, a, b)
    if b.link != a.link:
        tips.append(_rate_tip(site, a, b, float(_less(own, other))))
        tips += _arrival_tip(site, a, b)
    return tips


def slo_tips(site: Site, b: Terms) -> list[Tip]:
    """Where the latency quantile of a remote placement meets the objective, an estimate."""
    slo, traffic = site.scenario.slo, site.traffic

    def late(changed: Traffic) -> F64:
        return latency_quantile_ms(b, changed, site.nodes, slo.quantile) - slo.latency_ms

    spare = -float(late(traffic))
    distance = float(traffic.rtt_ms[b.link]) + b.extra_rtt_ms + spare
    met = spare >= 0
    farthest = distance if distance > 0 else np.nan
    tips = [_slo("round_trip_ms", "ms", farthest, True, met, site.over("round_trip_ms", b.node))]
    slowest = scan_root(lambda x: late(_at_rate(traffic, b, x)), *RATES_MBPS, log=True)
    tips.append(_slo("rate_mbps", "Mbit/s", slowest, False, met, site.over("rate_mbps", b.link)))
    if site.scenario.nodes[b.node].background is not None:
        value = scan_root(lambda x: late(_at_load(traffic, b, x)), 0.0, _top_load(site, b))
        tips.append(_slo("load", "1", value, True, met, site.over("load", b.node)))
    if np.any(traffic.rate_per_s):
        value = scan_root(lambda x: late(replace(traffic, rate_per_s=x)), *_rates(site, b))
        tips.append(_slo("arrival_per_s", "1/s", value, True, met, site.over("arrival_per_s")))
    return tips


def _tip(quantity: str, unit: str, value: float, below: Terms, above: Terms, over: Span, now: str) -> Tip:
    """A tip of the mean latency; without a value the one that is faster now always is."""
    if not np.isfinite(value):
        return make_tip("mean_latency", quantity, unit, np.nan, now, now, over)
    return make_tip("mean_latency", quantity, unit, value, below.name, above.name, over)


def _slo(quantity: str, unit: str, value: float, met_below: bool, met_now: bool, over: Span) -> Tip:
    now = "met" if met_now else "missed"
    if not np.isfinite(value):
        return make_tip("slo", quantity, unit, np.nan, now, now, over)
    below, above = ("met", "missed") if met_below else ("missed", "met")
    return make_tip("slo", quantity, unit, value, below, above, over)


def _rate_tip(site: Site, a: Terms, b: Terms, spare_ms: float) -> Tip:
    """Rate above which b is faster: the link may take what b's other terms leave of a's latency."""
    traffic = site.traffic
    sojourn = spare_ms + float(network_ms(b, traffic))
    variability = (traffic.arrival_scv + (0.0 if b.split else traffic.payload_scv)) / 2
    sending = float(sending_for_sojourn_ms(sojourn, traffic.rate_per_s, variability))
    rate = float(b.crossing_kb(traffic.payload_kb)) * BITS_PER_BYTE / sending if sending > 0 else np.nan
    over = site.over("rate_mbps", b.link)
    return _tip(
        "rate_mbps", "Mbit/s", rate if rate > 0 else np.nan, a, b, over, b.name if spare_ms > 0 else a.name
    )


def _load_tip(site: Site, a: Terms, b: Terms) -> list[Tip]:
    """Load up to which b is faster: Ng et al. eq (11) solved for it; on a batching node from the node's profile."""
    node, traffic = site.nodes[b.node], site.traffic
    if site.scenario.nodes[b.node].background is None:
        return []
    spare = float(_less(mean_latency_ms(a, traffic, site.nodes), mean_latency_ms(b, traffic, site.nodes)))
    if node.batches:

        def slower(load: Values) -> F64:
            there = _at_load(traffic, b, load)
            return _less(mean_latency_ms(b, there, site.nodes), mean_latency_ms(a, traffic, site.nodes))

        value = scan_root(slower, 0.0, _top_load(site, b))
    else:
        idle = replace(
            traffic, load={**traffic.load, b.node: 0.0}, rate_per_s=0.0
        )  # the node's wait left out
        away = network_ms(b, traffic) + traffic.rtt_ms[b.link] + b.extra_rtt_ms
        rest = float(head_ms(b, traffic) + away + service_ms(b, idle, site.nodes))
        wait = float(mean_latency_ms(a, traffic, site.nodes)) - rest
        one = b.service_ms / node.parallelism
        value = np.nan
        if wait >= 0 and np.isfinite(wait):
            own_load = float(traffic.rate_per_s) * one / MS_PER_S
            tenants_ms = node.service_ms / node.parallelism
            value = float(load_for_wait(wait, tenants_ms, node.service_scv, own_load, one, b.service_scv))
    over = site.over("load", b.node)
    now = b.name if spare > 0 else a.name
    return [_tip("load", "1", value if value > 0 else np.nan, b, a, over, now)]


def _arrival_tip(site: Site, a: Terms, b: Terms) -> list[Tip]:
    """First arrival rate at which the faster one of the two changes; nobody queues in a closed loop."""
    traffic = site.traffic
    if not np.any(traffic.rate_per_s):
        return []

    def ahead(rate: Values) -> F64:
        there = replace(traffic, rate_per_s=rate)
        own, other = (mean_latency_ms(t, there, site.nodes) for t in (a, b))
        return _less(own, other)

    low, high = _rates(site, a)
    value = scan_root(ahead, low, max(high, _rates(site, b)[1]))
    slow = b if ahead(low) > 0 else a  # faster at few requests
    fast = a if slow is b else b
    now = b.name if ahead(traffic.rate_per_s) > 0 else a.name
    return [_tip("arrival_per_s", "1/s", value, slow, fast, site.over("arrival_per_s"), now)]


def _less(x: Values, y: Values) -> F64:
    """The difference, NaN where both queues grow for ever."""
    with np.errstate(invalid="ignore"):
        return np.asarray(x) - np.asarray(y)


def _at_rate(traffic: Traffic, b: Terms, rate: Values) -> Traffic:
    return replace(traffic, rate_mbps={**traffic.rate_mbps, b.link: rate})


def _at_load(traffic: Traffic, b: Terms, load: Values) -> Traffic:
    return replace(traffic, load={**traffic.load, b.node: load})


def _top_load(site: Site, b: Terms) -> float:
    """Highest load that can be asked about: the profile's top level, or just below the saturation."""
    return float(site.curves[b.node].load[-1]) if site.nodes[b.node].batches else TOP_LOAD


def _rates(site: Site, t: Terms) -> tuple[float, float]:
    """Arrival rates from almost none to where the placement's own server saturates."""
    parallel = site.nodes[t.node].parallelism if t.remote else 1
    most = MS_PER_S * parallel / float(service_ms(t, replace(site.traffic, rate_per_s=0.0), site.nodes))
    if t.remote:
        sending = (
            float(t.crossing_kb(site.traffic.payload_kb))
            * BITS_PER_BYTE
            / float(site.traffic.rate_mbps[t.link])
        )
        most = min(most, MS_PER_S / sending) if sending > 0 else most
        most = min(most, MS_PER_S / t.head_ms) if t.split else most
    return 1e-3 * most, TOP_LOAD * most
