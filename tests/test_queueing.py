"""Closed forms against textbook values, limits, each other, and brute force over the paper's own formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs import queueing as q
from carbonpilot.envs import tail_latency as tail
from carbonpilot.envs.errors import InputError

SERVICE = st.floats(0.1, 500)
LOAD = st.floats(0.001, 0.99)
SCV = st.floats(0, 10)
K = st.floats(0.5, 16)


def per_s(load: float, service_ms: float, k: float = 1.0) -> float:
    return 1000 * load * k / service_ms


# -- the paper's formulas, letter by letter -------------------------------------------------------------


@settings(deadline=None)
@given(SERVICE, LOAD, K)
def test_eq_6(service, load, k):
    mu, lam = k / service, load * k / service
    printed = 0.5 * (1 / (mu - lam) - 1 / mu)
    assert q.md1_wait_ms(service, 1000 * lam, k) == pytest.approx(printed, rel=1e-9)


@settings(deadline=None)
@given(SERVICE, LOAD, K)
def test_eq_7(service, load, k):
    mu, lam = k / service, load * k / service
    assert q.mm1_wait_ms(service, 1000 * lam, k) == pytest.approx(1 / (mu - lam) - 1 / mu, rel=1e-9)


@settings(deadline=None)
@given(SERVICE, LOAD, SCV)
def test_eq_11(service, load, scv):
    mu, lam, variance = 1 / service, load / service, scv * service**2
    printed = (load + lam * mu * variance) / (2 * (mu - lam))
    assert q.mg1_wait_ms(service, 1000 * lam, scv) == pytest.approx(printed, rel=1e-9)


@settings(deadline=None)
@given(SERVICE, LOAD, SCV, SCV)
def test_eq_13(service, load, arrival_scv, scv):
    lam = load / service
    printed = lam * (arrival_scv / lam**2 + scv * service**2) / (2 * (1 - load))
    assert q.gg1_wait_bound_ms(service, 1000 * lam, arrival_scv, scv) == pytest.approx(printed, rel=1e-9)


def test_eq_1_adds_its_six_terms():
    wait_link, send, wait_server, serve, wait_reply, reply = 4 / 3, 4.0, 2.5, 10.0, 1 / 49, 1.0
    rate = 1000 / 16  # link 1/4 busy; the server serves 50 a second, another 50 replies pass the NIC
    server = q.Mixture(np.array(50.0), np.array(10.0), np.array(0.0))
    wait_server = 0.5 * 10 / (2 * 0.5)
    wait_reply = 0.05 / 0.95
    expected = wait_link + send + wait_server + serve + wait_reply + reply
    assert q.offload_latency_ms(4.0, 1.0, rate, 10.0, server) == pytest.approx(expected)


def test_textbook_values():
    # Gross and Harris: M/M/1 with lambda = 5/h, mu = 6/h waits 50 min; deterministic service halves it.
    ten_minutes = 600_000.0
    rate = 5 / 3600
    assert q.mm1_wait_ms(ten_minutes, rate) == pytest.approx(50 * 60_000)
    assert q.md1_wait_ms(ten_minutes, rate) == pytest.approx(25 * 60_000)


# -- limits and order ---------------------------------------------------------------------------------

FORMS = [
    lambda s, r: q.md1_wait_ms(s, r),
    lambda s, r: q.mm1_wait_ms(s, r),
    lambda s, r: q.mg1_wait_ms(s, r, 3.0),
    lambda s, r: q.gg1_wait_bound_ms(s, r, 1.0, 1.0),
    lambda s, r: q.gg1_wait_ms(s, r, 2.0, 1.0),
]


@pytest.mark.parametrize("form", FORMS)
def test_limits(form):
    assert form(10.0, 0.0) == 0
    assert form(0.0, 50.0) >= 0
    assert form(10.0, 100.0) == np.inf
    assert form(10.0, 101.0) == np.inf
    assert form(10.0, 100 - 1e-9) > 1e9
    assert form(np.inf, 1.0) == np.inf


@pytest.mark.parametrize("form", FORMS)
def test_shapes(form):
    out = form(np.full((3, 1), 10.0), np.array([0.0, 50.0, 100.0, 200.0]))
    assert out.shape == (3, 4)
    assert np.isfinite(out[:, :2]).all()
    assert np.isinf(out[:, 2:]).all()
    assert np.ndim(form(10.0, 50.0)) == 0


@settings(deadline=None)
@given(SERVICE, LOAD, LOAD, SCV)
def test_more_requests_wait_longer(service, a, b, scv):
    low, high = sorted((a, b))
    rates = np.array([per_s(low, service), per_s(high, service)])
    waits = q.mg1_wait_ms(service, rates, scv)
    assert waits[0] <= waits[1] * (1 + 1e-12)


@settings(deadline=None)
@given(SERVICE, LOAD, SCV, SCV)
def test_more_variation_waits_longer_and_the_bound_holds(service, load, a, b):
    low, high = sorted((a, b))
    rate = per_s(load, service)
    assert q.mg1_wait_ms(service, rate, low) <= q.mg1_wait_ms(service, rate, high)
    assert q.mg1_wait_ms(service, rate, low) <= q.gg1_wait_bound_ms(service, rate, 1.0, low)
    assert q.gg1_wait_ms(service, rate, 1.0, low) == pytest.approx(q.mg1_wait_ms(service, rate, low))


def test_bound_is_tight_in_heavy_traffic_and_loose_by_what_the_docstring_says():
    for load in (0.2, 0.5, 0.9, 0.999):
        rate = per_s(load, 10.0)
        excess = q.gg1_wait_bound_ms(10.0, rate, 1.0, 0.5) - q.mg1_wait_ms(10.0, rate, 0.5)
        assert excess == pytest.approx(1000 * (1 + load) / (2 * rate), rel=1e-6)
    ratio = q.gg1_wait_bound_ms(10.0, 99.999, 1.0, 0.5) / q.mg1_wait_ms(10.0, 99.999, 0.5)
    assert ratio == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.array([1.0, -2.0]), np.array([np.nan, 1.0])])
def test_refuses_what_cannot_be(bad):
    for call in (
        lambda: q.md1_wait_ms(bad, 1.0),
        lambda: q.mm1_wait_ms(1.0, bad),
        lambda: q.mg1_wait_ms(1.0, 1.0, bad),
        lambda: q.gg1_wait_bound_ms(1.0, 1.0, bad, 0.0),
        lambda: q.gg1_wait_bound_ms(1.0, 1.0, 0.0, bad),
        lambda: q.transmission_ms(bad, 1.0),
        lambda: q.mixture(np.atleast_1d(bad), 1.0),
        lambda: tail.mg1_latency_quantile_ms(bad, 1.0),
    ):
        with pytest.raises(InputError, match="expected numbers >= 0"):
            call()
    with pytest.raises(InputError, match="parallelism"):
        q.md1_wait_ms(1.0, 1.0, 0.0)


# -- mixtures, links, tandems ---------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 20), SERVICE, SCV), min_size=1, max_size=6))
def test_mixture_is_the_mixture(tenants):
    rate, service, scv = (np.array(c) for c in zip(*tenants, strict=True))
    total, mean, mixed = q.mixture(rate, service, scv)
    share = rate / rate.sum()
    assert total == pytest.approx(rate.sum())
    assert mean == pytest.approx((share * service).sum())
    # The law of total variance, the other way to get it.
    variance = (share * scv * service**2).sum() + (share * (service - mean) ** 2).sum()
    assert mixed * mean**2 == pytest.approx(variance, rel=1e-6, abs=1e-6 * mean**2)


def test_mixture_of_nobody_and_of_one():
    assert q.mixture(np.zeros(3), np.ones(3)) == (0, 0, 0)
    assert q.mixture(np.array([2.0]), np.array([5.0]), np.array([0.7])) == pytest.approx((2, 5, 0.7))


def test_links():
    assert q.transmission_ms(5.92, 2.0) == pytest.approx(23.68)  # kB x 8 / (Mbit/s)
    assert q.transmission_ms(1.0, 0.0) == np.inf
    assert q.transmission_ms(0.0, 0.0) == 0
    assert q.network_latency_ms(20.0, 0.0, 25.0) == pytest.approx(20 / (1 - 0.5))  # M/M/1: s / (1 - rho)
    assert q.offload_latency_ms(np.inf, 0.0, 1.0, 1.0) == np.inf


def test_split_is_device_then_offloading():
    split = q.split_latency_ms(5.0, 2.0, 0.5, 20.0, 8.0)
    parts = q.device_latency_ms(5.0, 20.0) + q.offload_latency_ms(2.0, 0.5, 20.0, 8.0)
    assert split == pytest.approx(parts)
    # A prefix of nothing over no network leaves plain on-device processing of the rest.
    assert q.split_latency_ms(0.0, 0.0, 0.0, 20.0, 8.0) == pytest.approx(q.device_latency_ms(8.0, 20.0))


# -- the tail estimate ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(SERVICE, LOAD, st.floats(0.5, 0.999))
def test_tail_of_mm1_is_exponential(service, load, quantile):
    rate = per_s(load, service)
    exact = -np.log(1 - quantile) * service / (1 - load)
    assert tail.mg1_latency_quantile_ms(service, rate, 1.0, quantile) == pytest.approx(exact, rel=0.03)


def md1_wait_cdf(at: float, load: float) -> float:
    """P(W <= at services) of M/D/1 (Erlang 1909), in the alternating series that is stable for light loads."""
    total = 0.0
    for j in range(int(at) + 1):
        x = load * (at - j)
        total += (-x) ** j / float(np.prod(np.arange(1.0, j + 1))) * np.exp(x)
    return (1 - load) * total


@pytest.mark.parametrize("load", [0.02, 0.1, 0.3, 0.5, 0.7])
def test_p95_of_md1_against_the_exact_distribution(load):
    grid = np.linspace(0, 14, 2801)
    exact = 1 + grid[np.argmax([md1_wait_cdf(x, load) >= 0.95 for x in grid])]
    assert tail.mg1_latency_quantile_ms(1.0, per_s(load, 1.0), 0.0) == pytest.approx(exact, rel=0.05)


def test_quantiles_are_ordered_and_infinite_where_the_mean_is():
    found = [tail.mg1_latency_quantile_ms(10.0, 70.0, 0.5, p) for p in (0.5, 0.9, 0.95, 0.99)]
    assert found == sorted(found)
    assert tail.mg1_latency_quantile_ms(10.0, 100.0, 0.5) == np.inf
    assert tail.mg1_latency_quantile_ms(10.0, 0.0) == 10.0
    assert tail.mg1_latency_quantile_ms(np.full(4, 10.0), np.array([0, 1, 50, 200.0])).shape == (4,)
    with pytest.raises(InputError, match="between 0 and 1"):
        tail.mg1_latency_quantile_ms(10.0, 1.0, 0.0, 95)


def test_delays_add_up():
    a, b = tail.wait_delay(10.0, 50.0), tail.service_delay(5.0, 1.0)
    total = a.then(b)
    assert total.mean_ms == pytest.approx(q.md1_wait_ms(10.0, 50.0) + 5.0)
    assert total.busy == 1.0  # an exponential service always takes time
    assert total.variance_ms2 == pytest.approx(a.variance_ms2 + 25.0)
