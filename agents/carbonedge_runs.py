"""The simulator runs behind `carbonpilot reproduce carbonedge`: scenario, reading of the scores, configuration.

The scenario is calibrated on a model's monolithic row alone: its carbon at 530 g/kWh gives joules, over its latency
watts, and every node draws these watts for as long as it takes. What the scheduler believes is another matter: the
paper prints only the ranges of S_C and S_P, so the *readings* below say which beliefs give which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..envs.scenario import load_scenario, merge, scenario_dict
from ..envs.schema import LOCAL, Scenario
from ..envs.simulator import Simulator
from ..envs.tape import evaluation_seeds
from ..envs.units import J_PER_KWH, MG_PER_G, MS_PER_S, ms_per_kb
from ..envs.validation import validated
from . import carbonedge_paper as paper
from .carbonedge_policy import CarbonEdge, make
from .carbonedge_score import AMP4EC_WEIGHTS, TABLE_I, Limits, Weights, with_carbon_weight
from .carbonedge_view import Beliefs
from .metrics import mean_per_episode, placement_share
from .policy import Policy
from .rollout import run_policy

MODES = {
    paper.PERFORMANCE: TABLE_I["performance"],
    paper.BALANCED: TABLE_I["balanced"],
    paper.GREEN: TABLE_I["green"],
}
# Inferred: section IV-F prints a range of S_P of 0.166, and 1 / (1 + 0.2) - 1 / (1 + 0.2 / 0.4) = 0.1667, i.e.
# a task of 0.2 s on one CPU that takes longer by the CPU quotas of section IV-A1.
HISTORY_MS = 200.0


class Reading(NamedTuple):
    """A way to fill in what the paper does not print: the beliefs behind S_P and S_C, and the form of S_C."""

    name: str
    beliefs: Callable[[Scenario], Beliefs]
    carbon_form: str = "as_published"


class Key(NamedTuple):
    """Names a run: model, reading, configuration."""

    model: str
    reading: str
    configuration: str


@dataclass(frozen=True)
class Figures:
    """What a run shows, as means over its inferences.

    Attributes:
        latency_ms: mean latency.
        carbon_g: CO2 of an inference.
        share_pct: placement -> share of the inferences.
    """

    latency_ms: float
    carbon_g: float
    share_pct: dict[str, float]


def by_quota(scenario: Scenario) -> Beliefs:
    """The scenario's energies, and times for S_P that go with the CPU quotas (inferred, see `HISTORY_MS`)."""
    cpus = [paper.NODES[p.node].cpus if p.node != LOCAL else 1.0 for p in scenario.placements]
    return replace(Beliefs.of(scenario), history_ms=HISTORY_MS / np.array(cpus))


def by_printed_ranges(scenario: Scenario) -> Beliefs:
    """The same with an energy at which S_C spans the printed 0.054 over 380 to 620 g/kWh (inferred)."""
    beliefs = by_quota(scenario)
    return replace(beliefs, power_w=MS_PER_S * energy_of_range_j()[1] / beliefs.execution_ms)


def energy_of_range_j(score_range: float = paper.CARBON_SCORE_RANGE) -> tuple[float, float]:
    """The two energies of a task, J, at which eq (4) in Wh spans a range over the grids of the nodes."""
    low, high = paper.NODES["green"].carbon_g_per_kwh, paper.NODES["high"].carbon_g_per_kwh
    # 1 / (1 + low E) - 1 / (1 + high E) = range, a quadratic in E [Wh]
    roots = np.roots([score_range * low * high, score_range * (low + high) - (high - low), score_range])
    small, large = sorted(float(root.real) * J_PER_KWH / 1000 for root in roots)
    return small, large


CALIBRATED = Reading("calibrated", by_quota)
PRINTED_RANGES = Reading("printed ranges", by_printed_ranges)
TABLE_II_TIMES = Reading("Table II's latencies", Beliefs.of)
TRUE_KWH = Reading("true kWh", by_quota, "kwh")
MIN_MAX = Reading("min-max", by_quota, "minmax")
READINGS = (CALIBRATED, PRINTED_RANGES, TABLE_II_TIMES, TRUE_KWH, MIN_MAX)
WITHOUT_CARBON = "AMP4EC, Performance without S_C"  # the reading of AMP4EC from this paper alone


def model_scenario(model: str) -> Scenario:
    """The shipped scenario for MobileNetV2, and for another model a variant calibrated on its monolithic row.

    Where the paper prints only a Green row, all nodes take as long as the green one.
    """
    shipped = load_scenario("carbonedge")
    if model == paper.MOBILENET_V2:
        return shipped
    mono, green = paper.TABLE_IV[model]
    energy_j = mono.carbon_g / paper.NODES["medium"].carbon_g_per_kwh * J_PER_KWH  # eq (2) backwards, PUE 1
    power_w = energy_j / (mono.latency_ms / MS_PER_S)
    content = scenario_dict(shipped)
    for placement in content["placements"]:
        row, bridge = (mono, 0.0) if placement["node"] == LOCAL else (green, bridge_ms(shipped))
        placement["service"]["mean_ms"] = row.latency_ms - bridge
        placement["active_energy_j"] = power_w * row.latency_ms / MS_PER_S
        placement["model"] = model.lower()
    name = f"carbonedge-{model.lower()}"
    changes = {"name": name, "description": f"carbonedge with {model}.", "placements": content["placements"]}
    return validated(Scenario, merge(content, changes), f"carbonedge, variant {model}")


def bridge_ms(scenario: Scenario) -> float:
    """Time on the bridge between the containers: round trip and payload."""
    phase = scenario.links["bridge"].source.phases[0]  # type: ignore[union-attr]  # the shipped kind
    return phase.rtt_ms + scenario.payload.high_kb * ms_per_kb(float(phase.rate_mbps))


def scheduler(
    scenario: Scenario, name: str, weights: Weights, reading: Reading = CALIBRATED, given: bool = False
) -> CarbonEdge:
    """Algorithm 1 over the three nodes; placement 0 is the paper's monolithic baseline and no node."""
    return CarbonEdge(
        scenario,
        name,
        weights,
        Limits(latency_ms=scenario.slo.latency_ms),
        reading.carbon_form,
        counts="given" if given else "unanswered",
        beliefs=reading.beliefs(scenario),
        device_is_node=False,
    )


def plan() -> dict[Key, tuple[Scenario, Policy]]:
    """Every run of the tables."""
    runs: dict[Key, tuple[Scenario, Policy]] = {}
    for model in paper.TABLE_IV:
        site = model_scenario(model)
        runs[Key(model, CALIBRATED.name, paper.MONOLITHIC)] = (site, make("monolithic", site))
        for mode, weights in MODES.items():
            runs[Key(model, CALIBRATED.name, mode)] = (site, scheduler(site, mode, weights))
    site = model_scenario(paper.MOBILENET_V2)
    for reading in READINGS:
        for mode, weights in MODES.items():
            runs[Key(paper.MOBILENET_V2, reading.name, mode)] = (
                site,
                scheduler(site, mode, weights, reading),
            )
    for reading in (CALIBRATED, TABLE_II_TIMES):
        policy = scheduler(site, paper.AMP4EC, AMP4EC_WEIGHTS, reading, given=True)
        runs[Key(paper.MOBILENET_V2, reading.name, paper.AMP4EC)] = (site, policy)
    renormalised = with_carbon_weight(TABLE_I["performance"], 0.0)
    policy = scheduler(site, paper.AMP4EC, renormalised)
    runs[Key(paper.MOBILENET_V2, WITHOUT_CARBON, paper.AMP4EC)] = (site, policy)
    return runs


def play(scenario: Scenario, policy: Policy, seed: int, episodes: int = paper.REPETITIONS) -> Figures:
    """Play episodes of 50 inferences and read the means."""
    record = run_policy(policy, scenario, evaluation_seeds(seed, episodes))
    shares = placement_share(record, len(scenario.placements)).mean(axis=1)
    return Figures(
        latency_ms=float(mean_per_episode(record.latency_ms, record.valid).mean()),
        carbon_g=float(mean_per_episode(record.carbon_mg, record.valid).mean()) / MG_PER_G,
        share_pct={p.name: 100 * float(s) for p, s in zip(scenario.placements, shares, strict=True)},
    )


def play_all(seed: int) -> dict[Key, Figures]:
    """Make every run of the plan."""
    return {key: play(scenario, policy, seed) for key, (scenario, policy) in plan().items()}


def decision_ms(batch: int, repeats: int = 15, decisions: int = 100) -> float:
    """CPU time of one decision of CarbonEdge-Green, ms, on this machine: the median of some repeats.

    Args:
        batch: requests decided together; 0 for one request without a batch axis.
        repeats: measurements.
        decisions: calls in each measurement.
    """
    scenario = model_scenario(paper.MOBILENET_V2)
    simulator = Simulator(scenario, max(batch, 1), part="evaluation")
    observation, mask = simulator.reset(np.arange(max(batch, 1))), simulator.masks()
    if batch == 0:
        observation, mask = observation[0], mask[0]
    policy = scheduler(scenario, paper.GREEN, MODES[paper.GREEN])
    policy.reset(max(batch, 1))
    taken_ms = []
    for _ in range(repeats):
        start = time.thread_time()
        for _ in range(decisions):
            policy.decide(observation, mask)
        taken_ms.append((time.thread_time() - start) * MS_PER_S / decisions / max(batch, 1))
    return float(np.median(taken_ms))
