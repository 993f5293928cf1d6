"""The simulator runs behind `carbonpilot reproduce khan`: scenario, variant and policy.

Only what the paper's experiment changes is changed: the account, the arrivals, a full batch instead of one
image, the transfer model. Every figure that the reproduction prints is measured on one of these runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..envs.scenario import load_scenario, merge, scenario_dict
from ..envs.schema import Scenario
from ..envs.tape import evaluation_seeds
from ..envs.validation import validated
from . import khan_paper as paper
from .metrics import episode_metrics, mean_per_episode
from .policy_registry import resolve
from .rollout import run_policy

EPISODES = 64  # of 1000 images each: p95 within about 0.3 %
RATE_REQUESTS = 500  # enough for a mean energy
TCP_REQUESTS = 250  # over one connection, then another
LOCAL, OFFLOAD = "always-local", "always-edge-b4"
ADAPTIVE = "oracle-per-request"  # section 3.4: per image, the lowest carbon among what meets the SLO
SWITCHING = "rtt-threshold"  # section 4.3: "offload when the network is good (...), otherwise run local"
FASTEST_LOCAL = paper.TABLE_1["khan-lan"].local.images_per_s
CONTROLS = ("cubic", "bbr")
TCP_PAYLOADS_KB = (1000, 30)  # the paper's image, and what its printed rows have room for
TCP_RATE_MBPS = 1000  # assumed: gigabit, so that loss and not the wire decides


class Key(NamedTuple):
    """Names a run: scenario, what was changed about it, policy."""

    scenario: str
    variant: str
    policy: str


@dataclass(frozen=True)
class Figures:
    """What a run shows, as means over its episodes.

    Attributes:
        p50_ms, p95_ms: quantiles of an episode's latencies.
        images_per_s: requests answered a second where one follows the other (closed loop).
        misses_pct: share of requests above the SLO.
        energy_j: energy of a request in the scenario's account.
        carbon_mg: CO2 of a request in the scenario's account.
        accuracy_miou: mIoU, %.
        offloaded_pct: share of requests that left the device.
    """

    p50_ms: float
    p95_ms: float
    images_per_s: float
    misses_pct: float
    energy_j: float
    carbon_mg: float
    accuracy_miou: float
    offloaded_pct: float


@dataclass(frozen=True)
class Run:
    """One run to be made."""

    key: Key
    scenario: Scenario


def changed(scenario: Scenario, name: str, changes: dict[str, Any]) -> Scenario:
    """A variant of a scenario; mappings are merged, lists replaced (envs/scenario.py)."""
    content = merge(scenario_dict(scenario), {"name": name, **changes})
    return validated(Scenario, content, f"{scenario.name}, variant {name}")


def at_rate(scenario: Scenario, rate: paper.Range) -> Scenario:
    """Images at a steady rate drawn from a range, in the account that shares idle power (Fig. 3)."""
    arrivals = {"kind": "periodic", "low_per_s": rate.low, "high_per_s": rate.high, "jitter_fraction": 0.0}
    changes = {"arrivals": arrivals, "account": "attributional", "episode": {"requests": RATE_REQUESTS}}
    return changed(scenario, "khan-rate", changes)


def local_at_rate(scenario: Scenario, rate: paper.Range) -> Scenario:
    """The same on the device; a rate beyond it becomes its fastest stream, one image after the other."""
    if rate.low > FASTEST_LOCAL:
        return changed(scenario, "khan-rate", {"account": "attributional"})
    return at_rate(scenario, rate)


def full_batches(scenario: Scenario) -> Scenario:
    """Eight images that leave together, ride in one batch and come back together, as one request.

    The simulator's device issues one image at a time, so a full batch is its request here: eight payloads,
    the batch's service time and energy by the node's own numbers.
    """
    edge = scenario.nodes["edge"].batching
    assert edge is not None
    content = scenario_dict(scenario)
    placements = content["placements"]
    offload = next(p for p in placements if p["name"] == "edge-b4")
    factor = 1 + edge.marginal_service_share * (edge.max_batch - 1)
    for quantile in ("p50_ms", "p95_ms"):
        offload["service"][quantile] *= factor
    offload["active_energy_j"] += (edge.max_batch - 1) * offload["batched_energy_j"]
    size = content["payload"]["low_kb"] * edge.max_batch
    changes = {"placements": placements, "payload": {"low_kb": size, "high_kb": size}}
    return changed(scenario, "khan-batch", changes)


def by_tcp(scenario: Scenario, control: str, payload_kb: float) -> Scenario:
    """The same profile with the tcp model instead of the paper's table."""
    content = scenario_dict(scenario)
    phases = [{**p, "rate_mbps": TCP_RATE_MBPS} for p in content["links"]["lan"]["source"]["phases"]]
    transfer = {"model": "tcp", "congestion_control": control, "jitter": "normal", "jitter_quantiles": None}
    changes = {
        "links": {"lan": {"source": {"phases": phases}, "transfer": transfer}},
        "payload": {"low_kb": payload_kb, "high_kb": payload_kb},
        "episode": {"requests": TCP_REQUESTS},
    }
    return changed(scenario, "khan-tcp", changes)


def plan() -> list[Run]:
    """Every run of the reproduction."""
    lan = load_scenario("khan-lan")
    mixed = changed(load_scenario("khan-mixed"), "khan-mixed", {"account": "attributional"})
    runs = [
        Run(Key(name, "", policy), load_scenario(name))
        for name in paper.TABLE_1
        for policy in (LOCAL, OFFLOAD)
    ]
    runs.append(Run(Key("khan-lan", "batch", OFFLOAD), full_batches(lan)))
    for rate in paper.FIG_3:
        row = rate_name(rate)
        runs.append(Run(Key("khan-lan", row, OFFLOAD), at_rate(lan, rate)))
        runs.append(Run(Key("khan-lan", row, LOCAL), local_at_rate(lan, rate)))
    runs += [Run(Key("khan-mixed", "", policy), mixed) for policy in (LOCAL, OFFLOAD, ADAPTIVE, SWITCHING)]
    for name in paper.TABLE_1:
        for control in CONTROLS:
            for size in TCP_PAYLOADS_KB:
                key = Key(name, f"{control} {size} kB", OFFLOAD)
                runs.append(Run(key, by_tcp(load_scenario(name), control, size)))
    return runs


def rate_name(rate: paper.Range) -> str:
    """Name of a rate in keys and rows: "8-12 im/s"."""
    return f"{rate.low:g} im/s" if rate.low == rate.high else f"{rate.low:g}-{rate.high:g} im/s"


def play(run: Run, seed: int, episodes: int = EPISODES) -> Figures:
    """Make a run on evaluation tapes and read its figures."""
    seeds = evaluation_seeds(seed, episodes)
    policy = resolve(run.key.policy, run.scenario, seed)
    record = run_policy(policy, run.scenario, seeds, part="evaluation")
    metrics = {k: float(v.mean()) for k, v in episode_metrics(record, run.scenario.slo).items()}
    images = paper.BATCH if run.key.variant == "batch" else 1
    mean_ms = mean_per_episode(record.latency_ms, record.valid)
    return Figures(
        p50_ms=metrics["latency_p50_ms"],
        p95_ms=metrics["latency_p95_ms"],
        images_per_s=float((1000 * images / mean_ms).mean()),
        misses_pct=100 * metrics["slo_miss_rate"],
        energy_j=metrics["energy_j_per_request"] / images,
        carbon_mg=metrics["carbon_mg_per_request"] / images,
        accuracy_miou=metrics["accuracy_miou"],
        offloaded_pct=100 * float(np.mean((record.placement > 0)[record.valid])),
    )


def play_all(
    seed: int, episodes: int = EPISODES, progress: Callable[[Run], None] | None = None
) -> dict[Key, Figures]:
    """Make every run of the plan.

    Args:
        seed: seed of the evaluation tapes; the same tapes serve every policy of a scenario.
        episodes: episodes a run.
        progress: called before each run.
    """
    figures = {}
    for run in plan():
        if progress is not None:
            progress(run)
        figures[run.key] = play(run, seed, episodes)
    return figures
