"""Mean latency and its quantile for a fixed placement, from the closed forms of queues (`envs.queueing`).

Stated without loss recovery and stalls: a healthy link. So an offload is never faster than this on average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.queueing import Values, gg1_wait_ms, mg1_wait_ms, mixture
from ..envs.schema import Scenario
from ..envs.tail_latency import Delay, quantile_ms, service_delay, wait_delay
from ..envs.units import BITS_PER_BYTE, MS_PER_S
from .breakeven_costs import NodeCurve, Terms

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tenants:
    """The other tenants of a node.

    Attributes:
        curve: what they cause at each load, used where the node batches.
        batches: whether it does; otherwise waits are M/G/1 (Ng et al. section 3.4).
        service_ms, service_scv: their service time, 0 without tenants.
        parallelism: servers, taken as one of their joint speed (section 3.3).
    """

    curve: NodeCurve
    batches: bool
    service_ms: float
    service_scv: float
    parallelism: int


def tenants(scenario: Scenario, node: str, curve: NodeCurve) -> Tenants:
    """The tenants of a node of the scenario."""
    spec = scenario.nodes[node]
    if (background := spec.background) is None:
        return Tenants(curve, False, 0.0, 0.0, spec.parallelism)
    scv = 1.0 if background.service_distribution == "exponential" else 0.0
    return Tenants(curve, spec.batching is not None, background.service_ms, scv, spec.parallelism)


@dataclass(frozen=True)
class Traffic:
    """What latency depends on; every value is a number or an array.

    Attributes:
        rate_per_s, arrival_scv: our arrivals; 0 a second in a closed loop, where nobody waits for oneself.
        payload_kb, payload_scv: request size.
        rate_mbps, rtt_ms, jitter_ms2: by link: rate, mean round trip, its variance within a second.
        load: by node, the other tenants'.
    """

    rate_per_s: Values
    arrival_scv: float
    payload_kb: Values
    payload_scv: float
    rate_mbps: Mapping[str, Values]
    rtt_ms: Mapping[str, Values]
    jitter_ms2: Mapping[str, Values]
    load: Mapping[str, Values]


def _on_device(terms: Terms, mean_ms: float, traffic: Traffic) -> F64:
    """Mean time that the device computes, longer where this much work makes it hot."""
    hot = np.asarray(traffic.rate_per_s) * mean_ms / MS_PER_S > terms.hot
    return np.where(hot, terms.slowdown, 1.0) * mean_ms


def head_ms(terms: Terms, traffic: Traffic) -> F64:
    """First part of a split inference with the wait for the device, mean: a tandem's first stage (section 3.3)."""
    if not terms.split:
        return np.zeros(())
    head = _on_device(terms, terms.head_ms, traffic)
    return head + gg1_wait_ms(head, traffic.rate_per_s, traffic.arrival_scv, terms.head_scv)


def service_ms(terms: Terms, traffic: Traffic, nodes: Mapping[str, Tenants]) -> F64:
    """Mean service time: longer on a hot device and in a batch; of a split inference the node's part."""
    if terms.remote:
        batch = nodes[terms.node].curve.at("batch", traffic.load[terms.node])
        return terms.service_ms * (1.0 + terms.batch_share * (batch - 1.0))
    return _on_device(terms, terms.service_ms, traffic)


def network_ms(terms: Terms, traffic: Traffic) -> F64:
    """Time on the link with the wait for it, mean; 0 on the device."""
    if not terms.remote:
        return np.zeros(())
    sending = (
        terms.crossing_kb(traffic.payload_kb) * BITS_PER_BYTE / np.asarray(traffic.rate_mbps[terms.link])
    )
    return sending + gg1_wait_ms(
        sending, traffic.rate_per_s, traffic.arrival_scv, _sending_scv(terms, traffic)
    )


def _sending_scv(terms: Terms, traffic: Traffic) -> float:
    """Variation of what is sent; what crosses a cut has one size."""
    return 0.0 if terms.split else traffic.payload_scv


def wait_ms(terms: Terms, traffic: Traffic, nodes: Mapping[str, Tenants]) -> F64:
    """Mean wait for the node."""
    serving = service_ms(terms, traffic, nodes)
    if not terms.remote:
        return gg1_wait_ms(serving, traffic.rate_per_s, traffic.arrival_scv, terms.service_scv)
    node, load = nodes[terms.node], np.asarray(traffic.load[terms.node])
    if node.batches:  # the tenants' batches carry our request along
        return node.curve.at("wait_ms", load)
    if node.service_ms == 0.0:
        return gg1_wait_ms(
            serving, traffic.rate_per_s, traffic.arrival_scv, terms.service_scv, node.parallelism
        )
    all_of_them = _shared(terms, traffic, node, load)
    return mg1_wait_ms(
        all_of_them.service_ms, all_of_them.rate_per_s, all_of_them.service_scv, node.parallelism
    )


def _shared(terms: Terms, traffic: Traffic, node: Tenants, load: F64):
    """Tenants and we at one server (Ng et al. section 3.4)."""
    background = load * node.parallelism / node.service_ms * MS_PER_S
    rates = np.stack(np.broadcast_arrays(background, np.asarray(traffic.rate_per_s, dtype=float)), axis=-1)
    return mixture(
        rates,
        np.array([node.service_ms, terms.service_ms]),
        np.array([node.service_scv, terms.service_scv]),
    )


def mean_latency_ms(terms: Terms, traffic: Traffic, nodes: Mapping[str, Tenants]) -> F64:
    """Mean latency, Ng et al. eqs (1) and (2) with round trip and batching added; infinite where a queue grows."""
    node = wait_ms(terms, traffic, nodes) + service_ms(terms, traffic, nodes)
    if not terms.remote:
        return node
    away = network_ms(terms, traffic) + traffic.rtt_ms[terms.link] + terms.extra_rtt_ms
    return head_ms(terms, traffic) + away + node


def latency_quantile_ms(terms: Terms, traffic: Traffic, nodes: Mapping[str, Tenants], quantile: float) -> F64:
    """Quantile of the latency in a steady situation, an estimate (`envs.tail_latency`)."""
    serving = service_ms(terms, traffic, nodes)
    delay = service_delay(serving, terms.service_scv)
    if not terms.remote:
        delay = delay.then(_own_wait(serving, traffic, terms.service_scv))
        return quantile_ms(delay, quantile)
    if terms.split:
        head = _on_device(terms, terms.head_ms, traffic)
        delay = delay.then(service_delay(head, terms.head_scv)).then(_own_wait(head, traffic, terms.head_scv))
    sending = (
        terms.crossing_kb(traffic.payload_kb) * BITS_PER_BYTE / np.asarray(traffic.rate_mbps[terms.link])
    )
    varies = _sending_scv(terms, traffic)
    delay = delay.then(service_delay(sending, varies)).then(_own_wait(sending, traffic, varies))
    delay = delay.then(_node_wait(terms, traffic, nodes))
    jitter = np.asarray(traffic.jitter_ms2[terms.link], dtype=float)
    delay = delay.then(Delay(0.0, np.where(jitter > 0, 1.0, 0.0), 0.0, jitter))
    fixed = Delay(traffic.rtt_ms[terms.link] + np.asarray(terms.extra_rtt_ms), 0.0, 0.0, 0.0)
    return quantile_ms(delay.then(fixed), quantile)


def _own_wait(serving: Values, traffic: Traffic, scv: float, parallelism: int = 1) -> Delay:
    """Our own queue: the moments of M/G/1, less where arrivals are more even than Poisson."""
    poisson = wait_delay(serving, traffic.rate_per_s, scv, parallelism)
    share = (traffic.arrival_scv + scv) / (1.0 + scv)
    if share == 0.0:  # even arrivals, even service: nobody waits unless the queue grows for ever
        stuck = np.where(np.isfinite(poisson.mean_ms), 0.0, np.inf)
        return Delay(0.0, np.where(stuck > 0, 1.0, 0.0), stuck, stuck)
    return Delay(0.0, poisson.busy, poisson.mean_ms * share, poisson.variance_ms2 * share)


def _node_wait(terms: Terms, traffic: Traffic, nodes: Mapping[str, Tenants]) -> Delay:
    node, load = nodes[terms.node], np.asarray(traffic.load[terms.node], dtype=float)
    if node.batches:
        mean = node.curve.at("wait_ms", load)
        return Delay(0.0, np.where(mean > 0, 1.0, 0.0), mean, node.curve.at("wait_ms2", load))
    if node.service_ms == 0.0:
        return _own_wait(terms.service_ms, traffic, terms.service_scv, node.parallelism)
    all_of_them = _shared(terms, traffic, node, load)
    return wait_delay(
        all_of_them.service_ms, all_of_them.rate_per_s, all_of_them.service_scv, node.parallelism
    )
