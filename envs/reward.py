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
        """Fill ``carbon_mg``, ``reward_terms`` (weighted, at most zero) and ``reward``."""
        w = self.weights
        o.marginal = self.marginal
        o.carbon_mg = o.carbon_mg_marginal if self.marginal else o.carbon_mg_attributional
        excess_ms = self.ops.maximum(o.latency_ms - self.slo_ms, 0.0)
        o.reward_terms = {
            "carbon": o.carbon_mg * -w.carbon_per_mg,
            "slo_miss": o.missed * -w.slo_miss,
            "latency_excess": excess_ms * (-w.latency_excess_per_s / MS_PER_S),
            "accuracy": (o.accuracy_miou - self.best_miou) * w.accuracy_per_miou,
        }
        a, b, c, d = o.reward_terms.values()
        o.reward = a + b + c + d
