"""What serving one request takes: time, as a quantile table, so that a draw is one look-up, and energy in a batch."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from .records import SERVICE_BITS
from .schema import Placement, Service

_Z95 = NormalDist().inv_cdf(0.95)


def lognormal_sigma(p50_ms: float, p95_ms: float) -> float:
    """Sigma of the lognormal through a median and a 95th percentile: ln(p95/p50) / z(0.95)."""
    return math.log(p95_ms / p50_ms) / _Z95


def mean_ms(service: Service) -> float:
    """Mean service time, ms."""
    if service.distribution == "lognormal":
        assert service.p50_ms is not None  # the schema says so, here and below
        assert service.p95_ms is not None
        return service.p50_ms * math.exp(lognormal_sigma(service.p50_ms, service.p95_ms) ** 2 / 2)
    assert service.mean_ms is not None
    return service.mean_ms


def service_p95_ms(service: Service) -> float:
    """The 95th percentile of a service time, ms."""
    if service.p95_ms is not None:
        return service.p95_ms
    assert service.mean_ms is not None  # the schema: every form but lognormal has a mean
    return service.mean_ms * (math.log(20.0) if service.distribution == "exponential" else 1.0)


def service_scv(service: Service) -> float:
    """Squared coefficient of variation of a service time, variance / mean^2."""
    if service.distribution == "deterministic":
        return 0.0
    if service.distribution == "exponential":
        return 1.0
    assert service.p50_ms is not None  # the schema: a lognormal has both
    assert service.p95_ms is not None
    return math.expm1(lognormal_sigma(service.p50_ms, service.p95_ms) ** 2)


def quantile_table(service: Service, size: int = 1 << SERVICE_BITS) -> npt.NDArray[np.float64]:
    """Service times at ``size`` evenly spaced quantiles, ms.

    The entries stand for equal shares of probability. The table is scaled so that its mean is the
    distribution's mean (the outermost quantiles of a skewed distribution carry mass that mid-points miss).
    """
    middle = (np.arange(size) + 0.5) / size
    if service.distribution == "deterministic":
        return np.full(size, mean_ms(service))
    if service.distribution == "exponential":
        table = -np.log1p(-middle)
    else:
        assert service.p50_ms is not None
        assert service.p95_ms is not None
        normal = np.array([NormalDist().inv_cdf(q) for q in middle])
        table = np.exp(lognormal_sigma(service.p50_ms, service.p95_ms) * normal)
    return table * (mean_ms(service) / table.mean())


def batch_energy_j(placement: Placement, pue: float) -> tuple[float, float]:
    """Energy of one image in a batch of b as ``shared / b + own``: (shared, own), J, PUE included.

    Alone it is ``active_energy_j``; one more image in a batch adds ``batched_energy_j``, so the rest is shared.
    """
    alone, more = placement.active_energy_j, placement.batched_energy_j
    own = alone if more is None else more
    return pue * (alone - own), pue * own
