"""The weight sweep of Fig. 3: which node wins as w_C rises, played in the simulator.

The other four weights keep the proportions of a mode and share 1 - w_C. The paper does not say so; of Table I's three
modes only Performance's proportions put the switch of the printed ranges near 0.50 (`exact_switch`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..envs.schema import LOCAL, Scenario
from . import carbonedge_paper as paper
from .carbonedge_runs import Figures, Reading, play, scheduler
from .carbonedge_score import TABLE_I, NodeRecords, Scores, Weights, node_scores, with_carbon_weight

STEP = 0.05  # assumed: the paper's step is not printed; 0.05, 0.30 and 0.50 lie on it
WEIGHTS_C = tuple(round(i * STEP, 2) for i in range(round(1 / STEP) + 1))


@dataclass(frozen=True)
class Sweep:
    """One reading's figures at each w_C of `WEIGHTS_C`."""

    reading: str
    figures: tuple[Figures, ...]

    @property
    def switch(self) -> float | None:
        """The lowest w_C from which on the green node gets everything, or None."""
        green = [f.share_pct["green"] == 100.0 for f in self.figures]
        if not green[-1]:
            return None
        return WEIGHTS_C[len(green) - green[::-1].index(False)] if False in green else WEIGHTS_C[0]


def sweep(scenario: Scenario, reading: Reading, seed: int) -> Sweep:
    """Play one episode at each w_C."""
    figures = []
    for carbon in WEIGHTS_C:
        weights = with_carbon_weight(TABLE_I["performance"], carbon)
        policy = scheduler(scenario, f"w_C {carbon:g}", weights, reading)
        figures.append(play(scenario, policy, seed, episodes=1))
    return Sweep(reading.name, tuple(figures))


def idle_scores(scenario: Scenario, reading: Reading) -> dict[str, Scores]:
    """Node -> the components of its score while all nodes are idle, as in the paper's one-by-one runs."""
    beliefs = reading.beliefs(scenario)
    nodes = [i for i, p in enumerate(scenario.placements) if p.node != LOCAL]
    latency_ms = beliefs.execution_ms if beliefs.history_ms is None else beliefs.history_ms
    none = np.zeros(len(nodes))
    records = NodeRecords(
        load=none,
        latency_ms=latency_ms[nodes],
        free=beliefs.slots[nodes],
        average_time_ms=latency_ms[nodes],
        task_count=none,
        carbon_g_per_kwh=np.array([paper.NODES[scenario.placements[i].node].carbon_g_per_kwh for i in nodes]),
        power_w=beliefs.power_w[nodes],
        execution_ms=beliefs.execution_ms[nodes],
    )
    scores = [np.broadcast_to(s, len(nodes)) for s in node_scores(records, reading.carbon_form)]
    columns = np.array(scores).T
    return {scenario.placements[i].node: Scores(*row) for i, row in zip(nodes, columns, strict=True)}


def score_range(scores: dict[str, Scores], component: str) -> float:
    """The highest less the lowest value of a component over the nodes."""
    values = [float(getattr(s, component)) for s in scores.values()]
    return max(values) - min(values)


def exact_switch(carbon_range: float, performance_range: float, proportions: Weights) -> float:
    """The w_C at which two nodes that differ in S_C and S_P only have the same score.

    w_C x range(S_C) = w_P x range(S_P) with w_P = (1 - w_C) x its share of the other four weights (eq (3)).
    """
    share = proportions.performance / math.fsum(proportions[:4])
    against = share * performance_range
    return against / (against + carbon_range)
