"""Reward: minus a weighted sum of named costs in physical units, each kept in the outcome."""

from __future__ import annotations

from .ops import BatchOps, ScalarOps
from .outcome import Outcome
from .schema import Scenario
from .units import MS_PER_S


class Reward:
    """The scenario's reward, completed on an outcome: account, terms and their sum."""

    def __init__(self, scenario: Scenario, ops: BatchOps | ScalarOps) -> None:
        """Read the weights and the account."""
        self.ops, self.weights = ops, scenario.reward
        self.marginal = scenario.account == "marginal"
        self.slo_ms = scenario.slo.latency_ms
        self.best_miou = max(p.accuracy_miou for p in scenario.placements)

    def complete(self, o: Outcome) -> None:
        """Fill ``energy_j``, ``carbon_mg``, ``reward_terms`` (weighted, at most zero) and ``reward``."""
        w = self.weights
        o.energy_j = o.energy_j_marginal if self.marginal else o.energy_j_attributional
        o.carbon_mg = o.carbon_mg_marginal if self.marginal else o.carbon_mg_attributional
        excess_s = self.ops.maximum(o.latency_ms - self.slo_ms, 0.0) / MS_PER_S
        o.reward_terms = {
            "carbon": -w.carbon_per_mg * o.carbon_mg,
            "slo_miss": -w.slo_miss * o.missed,
            "latency_excess": -w.latency_excess_per_s * excess_s,
            "accuracy": -w.accuracy_per_miou * (self.best_miou - o.accuracy_miou),
        }
        a, b, c, d = o.reward_terms.values()
        o.reward = a + b + c + d
