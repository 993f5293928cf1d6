"""An estimate of latency quantiles, for objectives that are a p95 where Ng et al. predict means.

A latency is a constant plus independent random parts: waits, which are zero with probability 1 - rho, and random
service times. Mean and variance of each part are exact (Takacs' formula for the wait of M/G/1), so mean, variance
and the probability of no random part at all are exact for the sum. Between them stands an assumption: the random
part, where there is one, is gamma distributed. It is exact for M/M/1; tests hold it against simulation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .queueing import Mixture, Values, mg1_wait_ms

F64 = npt.NDArray[np.float64]


class Delay(NamedTuple):
    """A random time: ``floor_ms``, plus with probability ``busy`` something of continuous distribution.

    Attributes:
        floor_ms: smallest value.
        busy: probability of more than that.
        mean_ms, variance_ms2: moments of what comes on top, zeros included.
    """

    floor_ms: Values
    busy: Values
    mean_ms: Values
    variance_ms2: Values

    def then(self, other: Delay) -> Delay:
        """The sum of two independent delays."""
        return Delay(
            self.floor_ms + other.floor_ms,
            1 - (1 - self.busy) * (1 - other.busy),
            self.mean_ms + other.mean_ms,
            self.variance_ms2 + other.variance_ms2,
        )


def service_delay(service_ms: Values, service_scv: Values = 0.0) -> Delay:
    """A service or transmission time: its mean is a constant for scv = 0, random from 0 on otherwise."""
    service, scv = np.asarray(service_ms, dtype=np.float64), np.asarray(service_scv, dtype=np.float64)
    random = scv > 0
    mean = np.where(random, service, 0.0)
    return Delay(np.where(random, 0.0, service), np.where(random, 1.0, 0.0), mean, scv * mean**2)


def wait_delay(
    service_ms: Values, rate_per_s: Values, service_scv: Values = 0.0, parallelism: Values = 1.0
) -> Delay:
    """The wait of M/G/1: Var[W] = E[W]^2 + lambda E[S^3] / (3 (1 - rho)) (Takacs 1962).

    The third moment is a gamma distribution's, s^3 (1 + scv) (1 + 2 scv): right for deterministic and exponential
    service. Arguments and errors as `queueing.mg1_wait_ms`.
    """
    mean = mg1_wait_ms(service_ms, rate_per_s, service_scv, parallelism)
    one, scv = np.asarray(service_ms) / parallelism, np.asarray(service_scv)
    load = np.minimum(np.asarray(rate_per_s) * one / 1000, 1.0)
    third = one**2 * (1 + scv) * (1 + 2 * scv)  # E[S^3] / s
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(load < 1, mean**2 + load * third / (3 * (1 - load)), np.inf)
    return Delay(0.0, load, mean, variance)


def quantile_ms(delay: Delay, quantile: float = 0.95) -> F64:
    """The quantile of a delay, ms; infinite where its mean is.

    Raises:
        InputError: ``quantile`` does not lie between 0 and 1.
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile: expected a number between 0 and 1, got {quantile}. A p95 is 0.95.")
    floor, busy, mean, variance = (np.asarray(v, dtype=np.float64) for v in delay)
    hit = busy > 1 - quantile  # otherwise the quantile falls on requests without any random part
    with np.errstate(divide="ignore", invalid="ignore"):
        if_busy = mean / busy
        spread = (variance + mean**2) / busy - if_busy**2
        shape = if_busy**2 / np.maximum(spread, 1e-12 * if_busy**2)
        above = _gamma_quantile(np.where(hit, 1 - (1 - quantile) / busy, 0.5), shape) * if_busy
        return np.where(np.isfinite(mean), floor + np.where(hit, above, 0.0), np.inf)[()]


def mg1_latency_quantile_ms(
    service_ms: Values,
    rate_per_s: Values,
    service_scv: Values = 0.0,
    quantile: float = 0.95,
    parallelism: Values = 1.0,
) -> F64:
    """Quantile of wait plus service in M/G/1, ms: exact for M/M/1, an estimate otherwise.

    Args:
        service_ms, rate_per_s, service_scv, parallelism: as in `queueing.mg1_wait_ms`.
        quantile: 0.95 for a p95.

    Raises:
        InputError: an argument is negative or not a number, or the quantile is not between 0 and 1.
    """
    wait = wait_delay(service_ms, rate_per_s, service_scv, parallelism)
    return quantile_ms(wait.then(service_delay(service_ms, service_scv)), quantile)


def offload_delay(
    request_ms: Values,
    rate_per_s: Values,
    service_ms: Values,
    server: Mixture,
    *,
    request_scv: Values = 1.0,
    service_scv: Values = 0.0,
    parallelism: Values = 1.0,
) -> Delay:
    """Link and server together, eq (1) without the reply, as a delay.

    Args:
        request_ms, request_scv: transmission time; scv 1 is the paper's M/M/1, 0 a constant payload.
        rate_per_s: requests of this device.
        service_ms, service_scv: service time of this device's requests.
        server: everything that the server serves.
        parallelism: k of the server.
    """
    link = wait_delay(request_ms, rate_per_s, request_scv).then(service_delay(request_ms, request_scv))
    wait = wait_delay(server.service_ms, server.rate_per_s, server.service_scv, parallelism)
    return link.then(wait).then(service_delay(service_ms, service_scv))


def _gamma_quantile(probability: F64, shape: F64) -> F64:
    """Quantile of a gamma distribution of mean 1 (Wilson and Hilferty 1931), within 1 % for the tails used here."""
    z = _normal_quantile(probability)
    return np.maximum(1 - 1 / (9 * shape) + z / (3 * np.sqrt(shape)), 0.0) ** 3


def _normal_quantile(probability: F64) -> F64:
    """Quantile of the normal distribution, error below 4.5e-4 (Hastings 1955, sheet 68)."""
    tail = np.minimum(probability, 1 - probability)
    t = np.sqrt(-2 * np.log(np.maximum(tail, 1e-300)))
    top = 2.515517 + t * (0.802853 + t * 0.010328)
    bottom = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return np.copysign(t - top / bottom, probability - 0.5)
