"""The charts that TensorBoard's custom scalars page shows of a training run, in the order in which one reads them.

A chart is written only with the tags that the run has: another algorithm or a site without a radio gets fewer charts,
never empty ones.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

Layout = dict[str, dict[str, list]]


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        category: heading that it stands under.
        title: what it shows, with the unit.
        tags: scalars in it; ``*`` stands for any text.
    """

    category: str
    title: str
    tags: tuple[str, ...]


CHARTS = (
    Chart("Carbon", "CO2, mg per request", ("carbon/mg_per_request", "eval/carbon_mg_per_request")),
    Chart("Carbon", "energy, J per request", ("energy/j_per_request",)),
    Chart(
        "Objective (SLO)",
        "share of the requests that miss it",
        ("slo/miss_rate", "eval/slo_miss_rate", "constraint/miss_rate", "constraint/target"),
    ),
    Chart("Objective (SLO)", "share of the episodes that meet it", ("eval/episodes_meeting_slo",)),
    Chart(
        "Objective (SLO)",
        "latency, ms",
        ("latency/p50_ms", "latency/p95_ms", "latency/p99_ms", "eval/latency_p95_ms"),
    ),
    Chart("Objective (SLO)", "multiplier: the price of a miss", ("constraint/multiplier",)),
    Chart("Hindsight", "share of the oracle's saving", ("eval/oracle_saving_share",)),
    Chart("Placements", "share of the requests", ("placement/*",)),
    Chart("Reward", "weighted terms per request", ("reward/*", "eval/reward_per_request")),
    Chart("Teaching", "lessons: loss of each round", ("teach/loss",)),
    Chart("Teaching", "lessons: share in which the cheapest placement is chosen", ("teach/agreement",)),
    Chart("Teaching", "lessons: what the choice costs above the cheapest, mg", ("teach/regret_mg",)),
    Chart("Teaching", "lessons: factor on the price of a miss", ("teach/miss_price_factor",)),
    Chart("Teaching", "after each stage: CO2, mg per request", ("teach/carbon_mg_per_request",)),
    Chart(
        "Teaching",
        "share of the requests that miss: after each stage, and while lessons are collected",
        ("teach/slo_miss_rate", "teach/lessons_miss_rate"),
    ),
    Chart(
        "Teaching",
        "after each stage: share of the episodes that meet the SLO",
        ("teach/episodes_meeting_slo",),
    ),
    Chart("Teaching", "after each stage: p95 latency, ms", ("teach/latency_p95_ms",)),
    Chart("Training itself", "energy of this machine, Wh", ("emissions/energy_wh",)),
    Chart("Training itself", "CO2 of this machine, g", ("emissions/co2_g",)),
    Chart("Training itself", "environment steps per second", ("time/fps",)),
)


def layout(tags: Iterable[str]) -> Layout:
    """The charts for a run that writes these tags.

    Args:
        tags: names of scalars.

    Returns:
        What ``SummaryWriter.add_custom_scalars`` takes: category -> title -> kind and tags. TensorBoard reads a tag as
        the beginning of a regular expression, so each is written as one that matches itself alone.
    """
    names = sorted(tags)
    found: Layout = {}
    for chart in CHARTS:
        shown = [name for tag in chart.tags for name in fnmatch.filter(names, tag)]
        if shown:
            exactly = [f"{re.escape(name)}$" for name in shown]
            found.setdefault(chart.category, {})[chart.title] = ["Multiline", exactly]
    return found
