"""Mean waits and latencies of queues in closed form, as Ng et al. use them ("To Offload or Not To Offload").

Arguments broadcast like NumPy arrays; times are in ms, rates in requests a second. A wait is the mean time in
the queue, service excluded; it is infinite where the utilisation reaches 1 and zero where nothing arrives. `scv`
is a squared coefficient of variation, variance / mean^2: 0 for deterministic times, 1 for exponential ones.

``parallelism`` is the paper's k (section 3.3), not always an integer: k servers are taken as one of k times the
speed for the wait, while a request's own service still takes 1/mu. An approximation; exact for k = 1.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import InputError

Values: TypeAlias = float | npt.NDArray[np.floating]
F64: TypeAlias = npt.NDArray[np.float64]


class Mixture(NamedTuple):
    """What a server sees of several Poisson streams together (section 3.4), arrays of one shape.

    Attributes:
        rate_per_s: joint arrival rate, lambda_edge.
        service_ms: mean service time over all requests, s_edge.
        service_scv: Var[s_edge] / s_edge^2.
    """

    rate_per_s: F64
    service_ms: F64
    service_scv: F64


def md1_wait_ms(service_ms: Values, rate_per_s: Values, parallelism: Values = 1.0) -> F64:
    """Mean wait of M/D/1, eq (6): (1/(k mu - lambda) - 1/(k mu)) / 2."""
    return mg1_wait_ms(service_ms, rate_per_s, 0.0, parallelism)


def mm1_wait_ms(service_ms: Values, rate_per_s: Values, parallelism: Values = 1.0) -> F64:
    """Mean wait of M/M/1, eq (7): 1/(k mu - lambda) - 1/(k mu)."""
    return mg1_wait_ms(service_ms, rate_per_s, 1.0, parallelism)


def mg1_wait_ms(
    service_ms: Values, rate_per_s: Values, service_scv: Values, parallelism: Values = 1.0
) -> F64:
    """Mean wait of M/G/1 (Pollaczek and Khinchine), eq (11): (rho + lambda mu Var[s]) / (2 (mu - lambda)).

    Eqs (6) and (7) are its cases scv = 0 and scv = 1. With ``parallelism`` both mean and deviation of the
    service time shrink by k, as they must for (6) to follow; eq (10) as printed does not do that, see
    `agents.ng_lemmas`.

    Args:
        service_ms: mean service time of one server, > 0 or 0 (then nobody waits).
        rate_per_s: Poisson arrivals.
        service_scv: squared coefficient of variation of the service time.
        parallelism: k > 0.

    Returns:
        Mean wait, ms, of the arguments' broadcast shape.

    Raises:
        InputError: an argument is negative or not a number, or ``parallelism`` is 0.
    """
    one = _joint_service(service_ms, parallelism)
    load = _load(one, _valid("rate_per_s", rate_per_s))
    with np.errstate(divide="ignore", invalid="ignore"):
        wait = load * one * (1 + _valid("service_scv", service_scv)) / (2 * (1 - load))  # eq (11), by 1 / mu
    return _limits(wait, load)


def gg1_wait_bound_ms(
    service_ms: Values,
    rate_per_s: Values,
    arrival_scv: Values,
    service_scv: Values,
    parallelism: Values = 1.0,
) -> F64:
    """Upper bound on the mean wait of G/G/1, eq (13): lambda (sigma_a^2 + sigma_s^2) / (2 (1 - rho)).

    Holds for independent interarrival times. It is loose in light traffic (for Poisson arrivals by
    (1 + rho) / (2 lambda), which grows as the rate falls) and tight as the utilisation goes to 1; at rate 0,
    where the formula has no value, nobody waits and the result is 0.

    Args:
        service_ms, rate_per_s, service_scv, parallelism: as in `mg1_wait_ms`.
        arrival_scv: squared coefficient of variation of the interarrival times, 1 for Poisson arrivals.

    Raises:
        InputError: as `mg1_wait_ms`.
    """
    one, rate = _joint_service(service_ms, parallelism), _valid("rate_per_s", rate_per_s)
    load = _load(one, rate)
    with np.errstate(divide="ignore", invalid="ignore"):
        between_ms = 1000 / rate
        spread = (
            _valid("arrival_scv", arrival_scv) * between_ms**2 + _valid("service_scv", service_scv) * one**2
        )
        wait = np.where(rate > 0, spread / (2 * between_ms * (1 - load)), 0.0)  # eq (13)
    return _limits(wait, load)


def gg1_wait_ms(
    service_ms: Values,
    rate_per_s: Values,
    arrival_scv: Values,
    service_scv: Values,
    parallelism: Values = 1.0,
) -> F64:
    """Approximate mean wait of G/G/1 (Kingman's heavy-traffic form; not in the paper): M/M/1 x (c_a^2 + c_s^2) / 2.

    Exact for Poisson arrivals, unlike eq (13). Arguments and errors as `gg1_wait_bound_ms`.
    """
    variability = (_valid("arrival_scv", arrival_scv) + _valid("service_scv", service_scv)) / 2
    wait = mm1_wait_ms(service_ms, rate_per_s, parallelism)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(wait), np.inf, wait * variability)[()]


def mixture(rate_per_s: Values, service_ms: Values, service_scv: Values = 0.0) -> Mixture:
    """Tenants of one server as one M/G/1 stream (section 3.4); the last axis runs over the tenants.

    s_edge = sum(lambda_i s_i) / lambda_edge, Var[s_edge] = E[s^2] - s_edge^2; all 0 where nobody sends anything.

    Raises:
        InputError: an argument is negative or not a number.
    """
    rate, service, scv = np.broadcast_arrays(
        _valid("rate_per_s", rate_per_s), _valid("service_ms", service_ms), _valid("service_scv", service_scv)
    )
    total = rate.sum(axis=-1)
    share = rate / np.where(total > 0, total, 1.0)[..., None]
    mean = (share * service).sum(axis=-1)
    second = (share * service**2 * (1 + scv)).sum(axis=-1)
    variance = np.maximum(second - mean**2, 0.0)
    return Mixture(total, mean, variance / np.where(mean > 0, mean, 1.0) ** 2)


def transmission_ms(payload_kb: Values, rate_mbps: Values) -> F64:
    """Time to send a payload, D / B in Table 2's words; infinite over a link of rate 0."""
    size, rate = _valid("payload_kb", payload_kb), _valid("rate_mbps", rate_mbps)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, 8 * size / rate, 0.0)[()]  # kB x 8 / (Mbit/s) = ms


def device_latency_ms(
    service_ms: Values, rate_per_s: Values, service_scv: Values = 0.0, parallelism: Values = 1.0
) -> F64:
    """Mean latency on the device, eq (2): wait (6), or (7) for scv = 1, plus service."""
    return mg1_wait_ms(service_ms, rate_per_s, service_scv, parallelism) + np.asarray(service_ms)


def network_latency_ms(
    request_ms: Values, reply_ms: Values, rate_per_s: Values, server_rate_per_s: Values | None = None
) -> F64:
    """Mean time on the network, eq (1) without the server: both NICs as M/M/1, eq (7), plus transmission.

    Args:
        request_ms, reply_ms: D_req / B and D_res / B; a reply of 0 ms never waits.
        rate_per_s: requests of this device.
        server_rate_per_s: replies that share the edge's NIC, lambda_edge of eq (10); None: this device's only.
    """
    replies = rate_per_s if server_rate_per_s is None else server_rate_per_s
    there = mm1_wait_ms(request_ms, rate_per_s) + np.asarray(request_ms)
    return there + mm1_wait_ms(reply_ms, replies) + np.asarray(reply_ms)


def offload_latency_ms(
    request_ms: Values,
    reply_ms: Values,
    rate_per_s: Values,
    service_ms: Values,
    server: Mixture | None = None,
    service_scv: Values = 0.0,
    parallelism: Values = 1.0,
) -> F64:
    """Mean latency of offloading, eq (1).

    Args:
        request_ms, reply_ms: transmission times n_req and n_res.
        rate_per_s: requests of this device.
        service_ms, service_scv: service time of this device's requests at the server.
        server: everything that the server serves, this device's requests included (`mixture`); None: only
            this device's.
        parallelism: k of the server.

    Returns:
        Mean latency, ms. The service term is this device's own ``service_ms``; the paper puts the tenants'
        average s_edge there (section 3.4), which is the same where all run the same model.
    """
    if server is None:
        server = mixture(*(np.asarray(v)[..., None] for v in (rate_per_s, service_ms, service_scv)))
    wait = mg1_wait_ms(server.service_ms, server.rate_per_s, server.service_scv, parallelism)
    network = network_latency_ms(request_ms, reply_ms, rate_per_s, server.rate_per_s)
    return network + wait + np.asarray(service_ms)


def split_latency_ms(
    prefix_ms: Values,
    request_ms: Values,
    reply_ms: Values,
    rate_per_s: Values,
    suffix_ms: Values,
    server: Mixture | None = None,
    service_scv: Values = 0.0,
    device_parallelism: Values = 1.0,
    parallelism: Values = 1.0,
) -> F64:
    """Mean latency of split processing (section 3.3, "Extending to collaborative processing"): a tandem.

    The first layers run on the device for ``prefix_ms``, then D_inter / B = ``request_ms`` on the network, then
    the rest on the server for ``suffix_ms``. Each stage is taken to see Poisson arrivals, which is exact only
    behind M/M/1 stages. Other arguments as `offload_latency_ms`.
    """
    device = device_latency_ms(prefix_ms, rate_per_s, service_scv, device_parallelism)
    rest = offload_latency_ms(request_ms, reply_ms, rate_per_s, suffix_ms, server, service_scv, parallelism)
    return device + rest


def _valid(name: str, values: Values) -> F64:
    array = np.asarray(values, dtype=np.float64)
    if not (array >= 0).all():
        wrong = array[~(array >= 0)].flat[0]
        raise InputError(
            f"{name}: expected numbers >= 0, got {wrong:g}. A rate, time or squared variation cannot be negative or "
            "missing; check the unit and the sign of what was passed."
        )
    return array


def _joint_service(service_ms: Values, parallelism: Values) -> F64:
    """Service time of the k servers taken as one, 1 / (k mu)."""
    k = _valid("parallelism", parallelism)
    if not k.all():
        raise InputError("parallelism: expected numbers > 0, got 0. Use 1 for a single server.")
    return _valid("service_ms", service_ms) / k


def _load(one_ms: F64, rate_per_s: F64) -> F64:
    """Utilisation; 0 where nothing arrives, even at a server that never finishes."""
    with np.errstate(invalid="ignore"):
        return np.where(rate_per_s > 0, one_ms * rate_per_s / 1000, 0.0)


def _limits(wait: F64, load: F64) -> F64:
    return np.where(load >= 1, np.inf, np.where(load > 0, wait, 0.0))[()]
