"""The dynamics against queueing theory, with error bars, and against an independent simulator."""

import ciw
import numpy as np
import pytest

from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator

REQUESTS = 4_000
BATCH = 160
WARM = 400  # requests until the queue has forgotten that it started empty


def queue_scenario(tiny, *, rate_per_s, service, parallelism=1, background=None, requests=REQUESTS):
    """One server behind a link that takes no time, Poisson arrivals."""
    data = tiny
    data["episode"]["requests"] = requests
    data["arrivals"] = {"kind": "poisson", "low_per_s": rate_per_s, "high_per_s": rate_per_s}
    link = data["links"]["uplink"]
    link["source"]["phases"] = [{"rtt_ms": 0, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": 1e9}]
    link["transfer"] = {"model": "empirical", "jitter": "normal"}
    node = data["nodes"]["edge"]
    node["parallelism"], node["batching"], node["background"] = parallelism, None, background
    for placement in data["placements"]:
        placement["service"] = service
        placement.pop("batched_energy_j", None)
    return Scenario.model_validate(data)


def waits(scenario, batch=BATCH, placement=1):
    """Node waits and total latencies (N, B), everything placed on one node."""
    sim = Simulator(scenario, batch)
    sim.reset(np.arange(batch))
    action = np.full(batch, placement)
    out = [sim.step(action).outcome for _ in range(scenario.episode.requests)]
    return np.array([o.node_wait_ms for o in out]), np.array([o.latency_ms for o in out])


def mean_and_error(values):
    """Mean over everything, and the standard error from the episodes' means."""
    means = values.mean(axis=0)
    return means.mean(), means.std(ddof=1) / np.sqrt(means.size)


def agrees(values, expected, sigmas=3.5, slack=0.0):
    mean, error = mean_and_error(values)
    assert abs(mean - expected) <= sigmas * error + slack * expected, (mean, error, expected)
    # The error bar itself must be tight enough for the comparison to mean something.
    assert error < 0.06 * expected


CASES = [
    # (service spec, rho, wait over service by Pollaczek and Khinchine: rho (1 + cv^2) / (2 (1 - rho)))
    ({"distribution": "exponential", "mean_ms": 20}, 0.5, lambda r: r / (1 - r)),
    ({"distribution": "exponential", "mean_ms": 20}, 0.7, lambda r: r / (1 - r)),
    ({"distribution": "deterministic", "mean_ms": 20}, 0.5, lambda r: r / (2 * (1 - r))),
    ({"distribution": "deterministic", "mean_ms": 20}, 0.8, lambda r: r / (2 * (1 - r))),
]


@pytest.mark.parametrize(("service", "rho", "theory"), CASES)
@pytest.mark.parametrize("placement", [0, 1])
def test_single_server_wait(tiny, service, rho, theory, placement):
    scenario = queue_scenario(tiny, rate_per_s=1000 * rho / 20, service=service)
    wait, _ = waits(scenario, placement=placement)
    agrees(wait[WARM:], 20 * theory(rho))


def test_m_g_1_lognormal(tiny):
    service = {"distribution": "lognormal", "p50_ms": 20, "p95_ms": 60}
    sigma = np.log(3) / 1.6448536
    mean, cv2 = 20 * np.exp(sigma**2 / 2), np.exp(sigma**2) - 1
    rho = 0.6
    scenario = queue_scenario(tiny, rate_per_s=1000 * rho / mean, service=service)
    wait, _ = waits(scenario)
    # The service table is cut at 4096 quantiles, which costs a little of the second moment.
    agrees(wait[WARM:], mean * rho * (1 + cv2) / (2 * (1 - rho)), slack=0.01)


def test_littles_law(tiny):
    """Time-average number in system equals arrival rate x mean time in system, episode by episode."""
    scenario = queue_scenario(tiny, rate_per_s=30, service={"distribution": "exponential", "mean_ms": 20})
    sim = Simulator(scenario, 4)
    sim.reset(np.arange(4))
    out = [sim.step(np.ones(4, dtype=int)).outcome for _ in range(REQUESTS)]
    issued = np.array([o.issued_ms for o in out])
    latency = np.array([o.latency_ms for o in out])
    for b in range(4):
        times = np.concatenate([issued[:, b], (issued + latency)[:, b]])
        step = np.concatenate([np.ones(REQUESTS), -np.ones(REQUESTS)])
        order = np.argsort(times, kind="stable")
        count = np.cumsum(step[order])
        assert count.min() >= 0
        assert count[-1] == 0
        span = times[order][-1] - times[order][0]
        in_system = np.sum(count[:-1] * np.diff(times[order])) / span
        assert in_system == pytest.approx(REQUESTS / span * latency[:, b].mean(), rel=1e-9)


def test_background_shares_the_queue_as_m_g_1(tiny):
    """Own Poisson stream and background one of other service times: M/G/1 of the mix (Ng Lemma 3.2)."""
    own_ms, other_ms, own_rate, other_load = 10.0, 30.0, 0.02, 0.45
    background = {
        "service_ms": other_ms,
        "service_distribution": "deterministic",
        "phases": [{"load": other_load}],
    }
    scenario = queue_scenario(
        tiny,
        rate_per_s=1000 * own_rate,
        service={"distribution": "deterministic", "mean_ms": own_ms},
        background=background,
    )
    wait, _ = waits(scenario)
    other_rate = other_load / other_ms
    rho = own_rate * own_ms + other_load
    theory = (own_rate * own_ms**2 + other_rate * other_ms**2) / (2 * (1 - rho))
    mean, _ = mean_and_error(wait[WARM:])
    # The background's history is one sample path of 17 minutes, so its own error bar is a few percent.
    assert mean == pytest.approx(theory, rel=0.05)


def test_two_servers_against_ciw(tiny):
    """M/M/2 against an independent discrete-event simulator."""
    rate, mean_ms, servers = 0.07, 20.0, 2
    scenario = queue_scenario(
        tiny,
        rate_per_s=1000 * rate,
        service={"distribution": "exponential", "mean_ms": mean_ms},
        parallelism=servers,
    )
    wait, _ = waits(scenario)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=rate)],
        service_distributions=[ciw.dists.Exponential(rate=1 / mean_ms)],
        number_of_servers=[servers],
    )
    ours, our_error = mean_and_error(wait[WARM:])
    means = []
    for seed in range(6):
        ciw.seed(seed)
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_time(10_000 / rate)
        means.append(np.mean([r.waiting_time for r in simulation.get_all_records()]))
    theirs, their_error = np.mean(means), np.std(means, ddof=1) / np.sqrt(len(means))
    assert abs(ours - theirs) < 3.5 * np.hypot(our_error, their_error)
    assert our_error < 0.05 * ours


def test_fifo_recursion_is_lindleys(tiny):
    """Wait of each request equals Lindley's recursion on the same arrivals and service times."""
    scenario = queue_scenario(
        tiny, rate_per_s=40, service={"distribution": "exponential", "mean_ms": 20}, requests=2000
    )
    sim = Simulator(scenario, 3)
    sim.reset([5, 6, 7])
    out = [sim.step(np.ones(3, dtype=int)).outcome for _ in range(2000)]
    issued = np.array([o.issued_ms for o in out])
    service = np.array([o.service_ms for o in out])
    wait = np.array([o.node_wait_ms for o in out])
    expected = np.zeros(3)
    for n in range(1, 2000):
        expected = np.maximum(expected + service[n - 1] - (issued[n] - issued[n - 1]), 0)
        np.testing.assert_allclose(wait[n], expected, atol=1e-6)
