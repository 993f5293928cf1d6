"""Closed forms and tail estimates against simulation with error bars: Lindley's recursion, ciw, our simulator."""

from __future__ import annotations

import ciw
import numpy as np
import pytest

from carbonpilot.agents import ng_sites
from carbonpilot.agents.ng_sites import Site, simulate
from carbonpilot.envs import queueing as q
from carbonpilot.envs import tail_latency as tail

RUNS, REQUESTS, WARM = 64, 40_000, 4_000
MS = 20.0


def service_times(rng: np.random.Generator, scv: float, size: int) -> np.ndarray:
    return np.full(size, MS) if scv == 0 else rng.gamma(1 / scv, scv * MS, size)


def queue(arrivals: np.ndarray, service: np.ndarray) -> np.ndarray:
    """Waits of one FIFO server: the reflected random walk of Lindley's recursion."""
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - np.diff(arrivals))])
    return walk - np.minimum.accumulate(walk)


def runs(gaps, scv: float) -> tuple[np.ndarray, np.ndarray]:
    """Waits and services (RUNS, kept) of independent runs; ``gaps`` draws interarrival times."""
    waits, services = [], []
    for seed in range(RUNS):
        rng = np.random.default_rng([7, seed])
        service = service_times(rng, scv, REQUESTS)
        waits.append(queue(np.cumsum(gaps(rng, REQUESTS)), service)[WARM:])
        services.append(service[WARM:])
    return np.array(waits), np.array(services)


def agrees(values: np.ndarray, expected: float, tight: float = 0.02) -> None:
    means = values.mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert error < tight * expected
    assert abs(means.mean() - expected) < 4 * error


@pytest.mark.parametrize("scv", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_wait_and_its_tail(scv, load):
    rate = 1000 * load / MS
    waits, services = runs(lambda rng, n: rng.exponential(1000 / rate, n), scv)
    agrees(waits, float(q.mg1_wait_ms(MS, rate, scv)))
    # The wait's second moment carries the tail estimate.
    agrees(
        waits**2, float(tail.wait_delay(MS, rate, scv).variance_ms2 + q.mg1_wait_ms(MS, rate, scv) ** 2), 0.06
    )
    p95 = np.quantile(waits + services, 0.95)
    stated = 0.05 if scv <= 1 else 0.08  # docs/reproduce-ng.md
    assert tail.mg1_latency_quantile_ms(MS, rate, scv) == pytest.approx(p95, rel=stated)


@pytest.mark.parametrize("load", [0.3, 0.8])
@pytest.mark.parametrize("arrival_scv", [0.25, 4.0])
def test_bound_of_eq_13_holds(arrival_scv, load):
    rate = 1000 * load / MS

    def gaps(rng: np.random.Generator, n: int) -> np.ndarray:
        if arrival_scv < 1:
            return rng.gamma(1 / arrival_scv, arrival_scv * 1000 / rate, n)
        return ng_sites.hyperexponential(rng, arrival_scv, (n,)) * 1000 / rate

    waits, _ = runs(gaps, 0.5)
    mean = waits.mean()
    assert mean < q.gg1_wait_bound_ms(MS, rate, arrival_scv, 0.5)
    # Kingman's form without the light-traffic excess is close where the load is high.
    if load == 0.8:
        assert q.gg1_wait_ms(MS, rate, arrival_scv, 0.5) == pytest.approx(mean, rel=0.15)


def test_hyperexponential_gaps_have_their_moments():
    gaps = ng_sites.hyperexponential(np.random.default_rng(0), 4.0, (2_000_000,))
    assert gaps.mean() == pytest.approx(1, abs=0.01)
    assert gaps.var() == pytest.approx(4, rel=0.02)


# -- the tandem of split processing, by an independent simulator ------------------------------------------


def tandem(device, link, server, per_ms: float, seeds: range) -> tuple[float, float]:
    """Mean end-to-end latency and its standard error of three FIFO queues in a row, by ciw."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=per_ms), None, None],
        service_distributions=[device, link, server],
        number_of_servers=[1, 1, 1],
        routing=[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
    )
    means = []
    for seed in seeds:
        ciw.seed(seed)
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_time(2_000 / per_ms)
        first: dict[int, float] = {}
        total = []
        for record in sorted(simulation.get_all_records(), key=lambda r: r.exit_date):
            first.setdefault(record.id_number, record.arrival_date)
            if record.node == 3:
                total.append(record.exit_date - first[record.id_number])
        means.append(np.mean(total[300:]))
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(len(means)))


def test_split_tandem_is_exact_for_exponential_stages():
    per_ms, prefix, send, suffix = 0.02, 20.0, 15.0, 10.0
    stages = [ciw.dists.Exponential(rate=1 / s) for s in (prefix, send, suffix)]
    mean, error = tandem(*stages, per_ms, range(10))
    form = q.split_latency_ms(prefix, send, 0.0, 1000 * per_ms, suffix, service_scv=1.0)
    assert error < 0.03 * mean
    assert abs(form - mean) < 4 * error


def test_split_tandem_overestimates_behind_deterministic_stages():
    """A deterministic stage spaces requests out; the tandem takes them for Poisson still."""
    per_ms, prefix, send, suffix = 0.02, 20.0, 15.0, 10.0
    stages = [ciw.dists.Deterministic(value=s) for s in (prefix, send, suffix)]
    mean, error = tandem(*stages, per_ms, range(6))
    form = q.split_latency_ms(prefix, send, 0.0, 1000 * per_ms, suffix)
    assert mean + 4 * error < form < 1.35 * mean


# -- our simulator ---------------------------------------------------------------------------------------

SITES = [
    Site(12.0, (50.0,), on_device=True),
    Site(12.0, (50.0,), "exponential", on_device=True),
    Site(40.0, (15.0,), request_ms=10.0),
    Site(40.0, (15.0,), "exponential", request_ms=10.0),
]


@pytest.mark.parametrize("site", SITES)
def test_our_simulator(site):
    found = simulate(site, seed=5, episodes=96, requests=2500)
    service, rate = site.services_ms[0], site.rate_per_s
    scv = 1.0 if site.distribution == "exponential" else 0.0
    alone = q.mixture(np.array([rate]), service, scv)
    if site.on_device:
        mean = q.device_latency_ms(service, rate, scv)
        p95 = tail.mg1_latency_quantile_ms(service, rate, scv)
    else:
        mean = q.offload_latency_ms(site.request_ms, 0.0, rate, service, alone, scv)
        p95 = tail.quantile_ms(tail.offload_delay(site.request_ms, rate, service, alone, service_scv=scv))
    assert found.mean_error_ms < 0.01 * mean
    assert abs(found.mean_ms - mean) < 4 * found.mean_error_ms
    assert p95 == pytest.approx(found.p95_ms, rel=0.05)


def test_several_models_on_our_simulator():
    """Lemma 3.2's server: requests of 5 and 30 ms take turns at random."""
    site = Site(40.0, (5.0, 30.0), request_ms=5.0, weights=(0.6, 0.4))
    found = simulate(site, seed=6, episodes=128, requests=2500)
    mix = q.mixture(np.array([24.0, 16.0]), np.array([5.0, 30.0]))
    mean = q.offload_latency_ms(5.0, 0.0, 40.0, mix.service_ms, mix)
    assert abs(found.mean_ms - mean) < 4 * found.mean_error_ms
    # Without the variance between the models the wait would be wrong by far more than that.
    flat = q.offload_latency_ms(5.0, 0.0, 40.0, mix.service_ms, q.mixture(np.array([40.0]), mix.service_ms))
    assert found.mean_ms - flat > 10 * found.mean_error_ms
