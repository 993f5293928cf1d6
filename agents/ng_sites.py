"""Small sites to hold the closed forms of Ng et al. against the simulator: one device, one link, one server.

The payload's and the arrivals' distributions are the paper's only if the tape says so: a scenario draws payloads
uniformly and knows no bursts, so `simulate` writes its own onto the tape before the first request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..envs.node_bank import bank_for
from ..envs.scenario import load_scenario, merge, scenario_dict
from ..envs.schema import Placement, Scenario
from ..envs.simulator import Simulator
from ..envs.tape import Tape, draw_tape, evaluation_seeds
from ..envs.validation import validated

F64 = npt.NDArray[np.float64]
Distribution = Literal["deterministic", "exponential"]
EPISODES, REQUESTS, WARMUP = 256, 5000, 1000  # kept: 256 x 4000 requests
HISTORY_BLOCKS = 64  # of a node's history, 16 s each
GROUPS = 16  # of episodes, for the standard error of a p95
NO_NETWORK_MBPS = 1e9
_ACTIVATION_KB = 1.0  # of a split placement; the link's rate makes of it what it takes to send


@dataclass(frozen=True)
class Site:
    """One setting.

    Attributes:
        rate_per_s: the device's requests.
        services_ms: mean service times; of several, each request draws one with ``weights``.
        distribution: of every service time.
        on_device: whether the requests stay on the device.
        request_ms: mean transmission time.
        payload: distribution of the payload, hence of the transmission time.
        arrival_scv: 1 for Poisson, more for hyperexponential gaps (bursts).
        weights: see ``services_ms``.
        node: changes of the server: parallelism, batching, background.
        jitter_fraction: of periodic arrivals, which then take the place of Poisson's.
        head_ms: mean service time of a head on the device, of split processing: then ``services_ms`` are the tails',
            and what crosses is an activation of one size, sent in ``request_ms``. None: whole models.
        head_distribution: of the head's service time.
    """

    rate_per_s: float
    services_ms: tuple[float, ...]
    distribution: Distribution = "deterministic"
    on_device: bool = False
    request_ms: float = 0.0
    payload: Literal["exponential", "constant"] = "exponential"
    arrival_scv: float = 1.0
    weights: tuple[float, ...] = (1.0,)
    node: dict[str, Any] | None = None
    jitter_fraction: float | None = None
    head_ms: float | None = None
    head_distribution: Distribution = "deterministic"


@dataclass(frozen=True)
class Simulated:
    """What the simulator gives: mean and p95 over the kept requests, ms, with standard errors over episodes."""

    mean_ms: float
    mean_error_ms: float
    p95_ms: float
    p95_error_ms: float


def scenario_of(site: Site, requests: int = REQUESTS) -> Scenario:
    """The scenario of a site: ng-network with a constant link, and one placement per service time."""
    base = load_scenario("ng-network")
    kb = _ACTIVATION_KB if site.request_ms > 0 else 0.0
    mbps = 8 * kb / site.request_ms if site.request_ms > 0 else NO_NETWORK_MBPS
    phase = {"rtt_ms": 0, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": mbps}
    changes = {
        "name": "ng-site",
        "episode": {"requests": requests},
        "arrivals": _arrivals(site),
        "payload": {"low_kb": kb, "high_kb": kb},
        "links": {"wireless": {"source": {"phases": [phase]}}},
        "nodes": {"e1": site.node or {}},
        "placements": _placements(site, *base.placements),
    }
    content = merge(scenario_dict(base), changes)
    return validated(Scenario, content, f"{base.name}, a site of the closed forms' grid")


def _arrivals(site: Site) -> dict[str, Any]:
    rate = {"low_per_s": site.rate_per_s, "high_per_s": site.rate_per_s}
    if site.jitter_fraction is None:
        return {"kind": "poisson", **rate}
    return {"kind": "periodic", "jitter_fraction": site.jitter_fraction, **rate}


def _placements(site: Site, local: Placement, remote: Placement) -> list[dict[str, Any]]:
    """The device with the first service time, and the server with each of them."""
    plain = [p.model_dump(mode="json", exclude_none=True) for p in (local, remote)]
    if "batching" in (site.node or {}):
        plain[1]["batched_energy_j"] = 0.0
    services = [{"distribution": site.distribution, "mean_ms": s} for s in site.services_ms]
    split = {} if site.head_ms is None else {"split": _head(site.head_ms, site.head_distribution)}
    servers = [{**plain[1], "name": f"e1-{i}", "service": s, **split} for i, s in enumerate(services)]
    return [{**plain[0], "service": services[0]}, *servers]


def _head(head_ms: float, distribution: Distribution) -> dict[str, Any]:
    service = {"distribution": distribution, "mean_ms": head_ms}
    return {"cut": "cut", "service": service, "active_energy_j": 0.0, "activation_kb": _ACTIVATION_KB}


def history_error_ms(site: Site) -> float:
    """Standard error of the tenants' mean wait in the one history that all episodes read, from its blocks."""
    bank = bank_for(scenario_of(site).nodes["e1"])
    busiest = bank.wait_ms[-1].astype(np.float64)
    blocks = busiest.reshape(HISTORY_BLOCKS, -1).mean(axis=1)
    return float(blocks.std(ddof=1) / np.sqrt(HISTORY_BLOCKS))


def simulate(site: Site, seed: int, episodes: int = EPISODES, requests: int = REQUESTS) -> Simulated:
    """Play a site and measure its latencies after the warm-up.

    Args:
        site: the setting.
        seed: of the evaluation tapes and of what is drawn here.
        episodes, requests: independent runs and their length; the first fifth of each is left out.
    """
    scenario = scenario_of(site, requests)
    simulator = Simulator(scenario, episodes, "evaluation")
    rng = np.random.default_rng([seed, 33])
    tape = draw_tape(simulator.site, evaluation_seeds(seed, episodes), "evaluation")
    _write_on(tape, site, rng)
    simulator.reset_tape(tape)
    warmup = requests * WARMUP // REQUESTS
    latency = np.empty((requests - warmup, episodes), np.float32)
    for n in range(requests):
        outcome = simulator.step(_choose(site, rng, episodes)).outcome
        if n >= warmup:
            latency[n - warmup] = outcome.latency_ms
    return _measure(latency)


def _write_on(tape: Tape, site: Site, rng: np.random.Generator) -> None:
    """Give a tape the payloads and arrivals that a scenario cannot describe."""
    if site.payload == "exponential":
        tape.payload_kb = rng.exponential(tape.payload_kb).astype(np.float32)
    if site.arrival_scv != 1.0:
        assert tape.arrivals_ms is not None  # never a closed loop here
        shape = (len(tape.arrivals_ms) - 1, tape.arrivals_ms.shape[1])
        gaps = hyperexponential(rng, site.arrival_scv, shape) * (1000 / site.rate_per_s)
        tape.arrivals_ms = np.concatenate([np.zeros((1, shape[1])), np.cumsum(gaps, axis=0)])


def hyperexponential(rng: np.random.Generator, scv: float, shape: tuple[int, ...]) -> F64:
    """Gaps of mean 1 and squared coefficient of variation ``scv`` >= 1: two exponentials of balanced means."""
    often = 0.5 * (1 + np.sqrt((scv - 1) / (scv + 1)))
    first = rng.uniform(size=shape) < often
    return rng.exponential(np.where(first, 0.5 / often, 0.5 / (1 - often)))


def _choose(site: Site, rng: np.random.Generator, episodes: int) -> npt.NDArray[np.int64]:
    if site.on_device:
        return np.zeros(episodes, dtype=np.int64)
    if len(site.services_ms) == 1:
        return np.ones(episodes, dtype=np.int64)
    return 1 + rng.choice(len(site.services_ms), size=episodes, p=site.weights)


def _measure(latency: npt.NDArray[np.float32]) -> Simulated:
    means = latency.mean(axis=0, dtype=np.float64)
    tails = np.array([np.quantile(part, 0.95) for part in np.array_split(latency, GROUPS, axis=1)])
    return Simulated(
        mean_ms=float(means.mean()),
        mean_error_ms=float(means.std(ddof=1) / np.sqrt(means.size)),
        p95_ms=float(np.quantile(latency, 0.95)),
        p95_error_ms=float(tails.std(ddof=1) / np.sqrt(GROUPS)),
    )
