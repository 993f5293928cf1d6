"""Break-even of a scenario: where carbon and latency tip between its placements, and how much there is to save.

From closed forms over what the scenario spans; nothing is simulated. docs/breakeven.md has the formulas.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..envs.scenario import scenario_sha256
from ..envs.schema import Scenario
from .breakeven_costs import Terms, placement_terms
from .breakeven_latency_tips import latency_tips, slo_tips
from .breakeven_pairs import Pair, Tip, carbon_tips
from .breakeven_proof import proven_best
from .breakeven_reference import Site, make_site
from .breakeven_saving import Fixed, Saving, fixed_placements, largest_saving, least_latency, moment_costs
from .breakeven_words import carbon_words, latency_words
from .breakeven_world import SEED, draw_world

SCHEMA = "carbonpilot/breakeven/1"

__all__ = ["SCHEMA", "BreakEven", "Fixed", "Pair", "Saving", "Tip", "break_even"]


@dataclass(frozen=True)
class BreakEven:
    """Where a scenario's placements tip.

    Attributes:
        scenario: what was asked about.
        conclusion: one line about carbon, true as it stands.
        latency: one line about latency.
        pairs: every pair of placements that differ in where they run or what they cost.
        slo: remote placement -> where its latency quantile meets the objective.
        proven_best: the placement that never emits more than another, if that can be proven.
        saving: upper bounds on what any policy can save against always-local (scenario's account).
        fixed: what each placement emits that is never left.
        site: everything that it was worked out from.
    """

    scenario: Scenario
    conclusion: str
    latency: str
    pairs: tuple[Pair, ...]
    slo: dict[str, tuple[Tip, ...]]
    proven_best: str | None
    saving: Saving
    fixed: dict[str, Fixed]
    site: Site

    def pair(self, a: str, b: str) -> Pair:
        """The pair of two placements, in either order.

        Raises:
            KeyError: there is no such pair.
        """
        for pair in self.pairs:
            if {pair.a, pair.b} == {a, b}:
                return pair
        raise KeyError(f"{a} against {b}")

    def as_json(self) -> dict[str, Any]:
        """The result as plain data (DESIGN.md, command line)."""
        return {
            "schema": SCHEMA,
            "carbonpilot_version": __version__,
            "scenario": self.scenario.name,
            "scenario_sha256": scenario_sha256(self.scenario),
            "seed": SEED,
            "account": self.scenario.account,
            "conclusion": self.conclusion,
            "latency": self.latency,
            "proven_best": self.proven_best,
            "largest_saving": asdict(self.saving),
            "fixed": {name: asdict(fixed) for name, fixed in self.fixed.items()},
            "pairs": [pair.as_json() for pair in self.pairs],
            "slo": {name: [tip.as_json() for tip in tips] for name, tips in self.slo.items()},
        }


def break_even(scenario: Scenario, traces_dir: str | Path | None = None) -> BreakEven:
    """Work out where the placements of a scenario tip.

    Args:
        scenario: a loaded scenario.
        traces_dir: trace folder, for scenarios that read one.

    Raises:
        InputError: the scenario reads traces and no folder was given, or a file is missing or broken.
    """
    terms = placement_terms(scenario)
    site = make_site(scenario, terms, draw_world(scenario, traces_dir))
    account = scenario.account
    pairs = _pairs(site, terms)
    slo = {t.name: tuple(slo_tips(site, t)) for t in terms if t.remote}
    best = proven_best(scenario, terms, site.world, account)
    least = least_latency(scenario, terms, site.world)
    saving = largest_saving(scenario, terms, site.world, account, least)
    fixed = fixed_placements(scenario, terms, site.world, account, least)
    return BreakEven(
        scenario=scenario,
        conclusion=carbon_words(site, pairs, best, saving, fixed),
        latency=latency_words(site, pairs, slo),
        pairs=pairs,
        slo=slo,
        proven_best=best,
        saving=saving,
        fixed=fixed,
        site=site,
    )


def _pairs(site: Site, terms: list[Terms]) -> tuple[Pair, ...]:
    """Every pair; a local placement comes first. Two local ones have nothing that could tip them."""
    costs = moment_costs(site.scenario, terms, site.world, site.scenario.account, radio="awake")
    pairs = []
    for i, j in combinations(range(len(terms)), 2):
        if terms[i].remote and not terms[j].remote:
            i, j = j, i
        a, b = terms[i], terms[j]
        tips = carbon_tips(site, a, b) + latency_tips(site, a, b) if b.remote else []
        pairs.append(Pair(a.name, b.name, float(np.mean(costs[j] < costs[i])), tuple(tips)))
    return tuple(pairs)
