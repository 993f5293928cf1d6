"""Lemmas 3.1, 3.2 and 3.3 of Ng et al. as functions: which side wins, by how much, and where it tips.

Each lemma bounds s_dev - s_edge from above; below the bound the device wins. Bound minus gap is the edge's
latency minus the device's, so the inequality and the latencies of eqs (1) and (2) say the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from ..envs import queueing as q

Winner = Literal["device", "edge", "neither"]
RATES_PER_S = (1e-3, 1e5)  # where `tipping_points` looks
BANDWIDTHS_MBPS = (1e-3, 1e5)
GRID = 1500  # points on a logarithmic scale; two tips closer than 1.2 % are not told apart


class Tenant(NamedTuple):
    """Requests of one other tenant of an edge server."""

    rate_per_s: float
    service_ms: float
    service_scv: float = 0.0


@dataclass(frozen=True)
class Case:
    """A device, an edge server and the network between them, in Table 2's quantities.

    Attributes:
        device_service_ms, edge_service_ms: s_dev and s_edge of one request on one processor.
        request_kb, reply_kb: D_req and D_res.
        bandwidth_mbps: B.
        rate_per_s: lambda, requests of the device.
        device_parallelism, edge_parallelism: k_dev and k_edge.
        tenants: who else uses the server (Lemma 3.2).
    """

    device_service_ms: float
    edge_service_ms: float
    request_kb: float
    bandwidth_mbps: float
    rate_per_s: float
    reply_kb: float = 0.0
    device_parallelism: float = 1.0
    edge_parallelism: float = 1.0
    tenants: tuple[Tenant, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What a lemma says of a case.

    Attributes:
        winner: side of lower mean latency; "neither" where both are equal or both queues grow without end.
        difference_ms: the edge's latency minus the device's; positive where the device wins, NaN where both
            are infinite.
        device_ms, edge_ms: mean latencies, eqs (2) and (1).
        gap_ms: s_dev - s_edge, left side of the inequality.
        bound_ms: its right side; the device wins while gap < bound.
        tips_at_mbps: bandwidths at which the winner changes, ascending; from the last one on (if any) the
            edge wins, for more bandwidth never hurts it.
        tips_at_per_s: rates of the device at which the winner changes, ascending; none, one or several, as
            both sides' waits grow.
    """

    winner: Winner
    difference_ms: float
    device_ms: float
    edge_ms: float
    gap_ms: float
    bound_ms: float
    tips_at_mbps: tuple[float, ...]
    tips_at_per_s: tuple[float, ...]


def lemma_3_1(case: Case) -> Comparison:
    """Deterministic service, M/D/1 on both sides, M/M/1 on the network: inequality (3) = (9)."""
    return _compare(replace(case, tenants=()), scv=0.0)


def lemma_3_2(case: Case) -> Comparison:
    """A shared server: M/G/1 over all tenants at the edge, M/D/1 on the device: inequality (10).

    With k_edge > 1 this is eq (10) with k in its proper place, see `eq_10_wait_ms`.
    """
    return _compare(case, scv=0.0)


def lemma_3_3(case: Case) -> Comparison:
    """Exponential service (recurrent and language models), M/M/1 everywhere: inequality (12)."""
    return _compare(replace(case, tenants=()), scv=1.0)


def eq_10_wait_ms(rate_per_s: float, service_ms: float, service_scv: float, parallelism: float) -> float:
    """The server's wait as eq (10) prints it: (rho + lambda k mu Var[s]) / (2 (k mu - lambda)), rho = lambda / mu.

    For k = 1 this is Pollaczek and Khinchine's. For k > 1 it is not eq (11) at the joint rate k mu: rho and
    Var[s] stay those of a single slow server, so that with Var[s] = 0 it is k times eq (6), from which the
    lemma is derived. `lemma_3_2` uses the consistent form instead.
    """
    per_ms, mu = rate_per_s / 1000, 1 / service_ms
    free = parallelism * mu - per_ms
    if free <= 0:
        return math.inf
    variance = service_scv * service_ms**2
    return (per_ms / mu + per_ms * parallelism * mu * variance) / (2 * free)  # eq (10)


def tenants_to_tip(case: Case, tenant: Tenant, most: int = 10_000) -> int | None:
    """Tenants of one kind beside the device's own from which on the device wins (section 4.8).

    Returns:
        The smallest number of other tenants at which the device is faster; 0 where it is anyway, None where
        it is not even with ``most``.
    """
    count = np.arange(most + 1)
    server = q.mixture(
        np.stack([np.full(most + 1, case.rate_per_s), count * tenant.rate_per_s], axis=-1),
        np.array([case.edge_service_ms, tenant.service_ms]),
        np.array([0.0, tenant.service_scv]),
    )
    faster = np.flatnonzero(
        _edge_ms(case, case.bandwidth_mbps, case.rate_per_s, 0.0, server) > _device_ms(case)
    )
    return int(faster[0]) if faster.size else None


def tipping_points(
    difference: Callable[[np.ndarray], np.ndarray], low: float, high: float
) -> tuple[float, ...]:
    """Where a difference changes its sign between two bounds, ascending, to a relative 1e-12.

    Args:
        difference: takes an array; NaN stands for no winner and ends a stretch.
        low, high: bounds, > 0, searched on a logarithmic grid.
    """
    grid = np.geomspace(low, high, GRID)
    sign = np.sign(difference(grid))
    found = []
    for i in np.flatnonzero(sign[1:] * sign[:-1] < 0):
        a, b = grid[i], grid[i + 1]
        while b / a > 1 + 1e-12:
            middle = math.sqrt(a * b)
            if middle in (a, b):
                break
            value = np.sign(difference(np.array([middle])))[0]
            a, b = (middle, b) if value == sign[i] else (a, middle)
        found.append(math.sqrt(a * b))
    return tuple(found)


def _compare(case: Case, scv: float) -> Comparison:
    def difference(bandwidth_mbps: q.Values, rate_per_s: q.Values) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # both infinite: no winner
            edge = _edge_ms(case, bandwidth_mbps, rate_per_s, scv)
            return np.asarray(edge - _device_ms(case, rate_per_s, scv))

    by = float(difference(case.bandwidth_mbps, case.rate_per_s))
    gap = case.device_service_ms - case.edge_service_ms
    return Comparison(
        winner="device" if by > 0 else "edge" if by < 0 else "neither",
        difference_ms=by,
        device_ms=float(_device_ms(case, scv=scv)),
        edge_ms=float(_edge_ms(case, case.bandwidth_mbps, case.rate_per_s, scv)),
        gap_ms=gap,
        bound_ms=by + gap,
        tips_at_mbps=tipping_points(lambda b: difference(b, case.rate_per_s), *BANDWIDTHS_MBPS),
        tips_at_per_s=tipping_points(lambda r: difference(case.bandwidth_mbps, r), *RATES_PER_S),
    )


def _device_ms(case: Case, rate_per_s: q.Values | None = None, scv: float = 0.0) -> np.ndarray:
    rate = case.rate_per_s if rate_per_s is None else rate_per_s
    return q.device_latency_ms(case.device_service_ms, rate, scv, case.device_parallelism)


def _edge_ms(
    case: Case, bandwidth_mbps: q.Values, rate_per_s: q.Values, scv: float, server: q.Mixture | None = None
) -> np.ndarray:
    server = server or _server(case.tenants, rate_per_s, case.edge_service_ms, scv)
    return q.offload_latency_ms(
        q.transmission_ms(case.request_kb, bandwidth_mbps),
        q.transmission_ms(case.reply_kb, bandwidth_mbps),
        rate_per_s,
        case.edge_service_ms,
        server,
        scv,
        case.edge_parallelism,
    )


def _server(tenants: Sequence[Tenant], rate_per_s: q.Values, service_ms: float, scv: float) -> q.Mixture:
    """The device's own requests and everybody else's."""
    own = np.asarray(rate_per_s, dtype=np.float64)
    rates = np.stack([own, *(np.full(own.shape, t.rate_per_s) for t in tenants)], axis=-1)
    services = np.array([service_ms, *(t.service_ms for t in tenants)])
    return q.mixture(rates, services, np.array([scv, *(t.service_scv for t in tenants)]))
