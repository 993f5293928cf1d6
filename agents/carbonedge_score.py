"""CarbonEdge's Algorithm 1: what each node scores for a task, and which node wins.

"CarbonEdge: Carbon-Aware Deep Learning Inference Framework for Sustainable Edge Computing", section III. Pure
array functions: the last axis is the nodes, any leading axes are tasks that are scored together.

Where the paper leaves a quantity open, what is used here was inferred from one of its sentences:

- *Seconds in S_P.* Line 9 gives no unit. Section IV-F prints a range of S_P of 0.166, and in milliseconds nodes
  that take more than 5 ms cannot be that far apart, so the average time counts in seconds.
- *S_R.* ``calc_resource_score`` is not defined; "each component is normalized to the [0,1] range", so it is what
  is free over what the task needs, at most 1.
- *Wh or kWh.* P [W] x T [ms] / 3 600 000 is Wh, though the text says "to kWh". Both are offered, and so is the
  "per-decision min-max normalization" that section V-A asks for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..envs.errors import unknown_name
from ..envs.units import MS_PER_S

CARBON_FORMS = ("as_published", "kwh", "minmax")
NOBODY = -1  # Algorithm 1 line 1: n* = null
WH_PER_KWH = 1000.0
W_MS_PER_WH = 3_600_000.0  # 1 W x 1 ms is a millijoule, and 1 Wh is 3 600 000 of them

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Weights(NamedTuple):
    """How much each component of the score counts."""

    resource: float
    load: float
    performance: float
    balance: float
    carbon: float


# Table I, under the names of the modes.
TABLE_I = {
    "performance": Weights(0.25, 0.25, 0.30, 0.15, 0.05),
    "balanced": Weights(0.20, 0.20, 0.15, 0.15, 0.30),
    "green": Weights(0.15, 0.15, 0.10, 0.10, 0.50),
}
# AMP4EC (arXiv:2504.00407) eq (7), as others quote it; CarbonEdge itself does not print AMP4EC's weights.
AMP4EC_WEIGHTS = Weights(0.2, 0.2, 0.1, 0.5, 0.0)


class NodeRecords(NamedTuple):
    """What the scheduler knows of each node; arrays (..., P).

    Attributes:
        load: share of the node's capacity in use.
        latency_ms: how long an answer of this node takes now.
        free: resources that are free, over what the task needs.
        average_time_ms: what a task took on this node on average (S_P).
        task_count: tasks that the node has (S_B).
        carbon_g_per_kwh: intensity of the node's grid.
        power_w: power that the node draws while it executes.
        execution_ms: historical average execution time (T_avg of eq (4)).
    """

    load: F64
    latency_ms: F64
    free: F64
    average_time_ms: F64
    task_count: F64
    carbon_g_per_kwh: F64
    power_w: F64
    execution_ms: F64


class Limits(NamedTuple):
    """Thresholds of Algorithm 1 line 3."""

    load: float = 0.8  # line 3: "n.load > 0.8"
    latency_ms: float = float("inf")  # line 3: "n.latency > threshold"; the paper prints no threshold


class Scores(NamedTuple):
    """The components of eq (3), each in [0, 1]; arrays (..., P)."""

    resource: F64
    load: F64
    performance: F64
    balance: F64
    carbon: F64


def eligible_nodes(records: NodeRecords, limits: Limits) -> Flags:
    """Nodes that may be scored: not overloaded, quick enough, and with something left for the task."""
    keep = (records.load <= limits.load) & (records.latency_ms <= limits.latency_ms)  # Algorithm 1 line 3
    return keep & (records.free > 0)  # Algorithm 1 line 6: has_sufficient_resources


def node_scores(records: NodeRecords, form: str = "as_published", among: Flags | None = None) -> Scores:
    """Score nodes by lines 7 to 11 of Algorithm 1.

    Args:
        records: what is known of the nodes.
        form: how S_C is made.
        among: the nodes (..., P) whose carbon the min-max form spans; None for all of them.
    """
    return Scores(
        resource=np.clip(records.free, 0.0, 1.0),  # line 7, form inferred
        load=np.clip(1.0 - records.load, 0.0, 1.0),  # line 8
        performance=1.0 / (1.0 + records.average_time_ms / MS_PER_S),  # line 9, in seconds (inferred)
        balance=1.0 / (1.0 + records.task_count * 2.0),  # line 10
        carbon=carbon_score(records, form, among),  # line 11
    )


def estimated_energy_wh(power_w: F64, execution_ms: F64) -> F64:
    """E_estimated = P_node x T_avg / 3 600 000 (section III-C1), which is Wh."""
    return power_w * execution_ms / W_MS_PER_WH


def carbon_score(records: NodeRecords, form: str = "as_published", among: Flags | None = None) -> F64:
    """S_C of each node (..., P); the node with the least P x T x I has the highest in every form.

    Args:
        records: what is known of the nodes.
        form: "as_published": eq (4) with the energy in Wh, though the intensity is per kWh; "kwh": eq (4) with
            its units right; "minmax": 1 for the cleanest node of this decision, 0 for the dirtiest.
        among: the nodes that the min-max form spans; None for all.

    Raises:
        InputError: there is no such form.
    """
    energy_wh = estimated_energy_wh(records.power_w, records.execution_ms)
    carbon = records.carbon_g_per_kwh * energy_wh  # mg with this energy; the paper takes it for g
    if form == "as_published":
        return 1.0 / (1.0 + carbon)  # eq (4)
    if form == "kwh":
        return 1.0 / (1.0 + carbon / WH_PER_KWH)  # eq (4), energy in kWh
    if form == "minmax":
        return _min_max(carbon, among)  # section V-A: "per-decision min-max normalization"
    raise unknown_name("form of S_C", form, CARBON_FORMS)


def _min_max(carbon: F64, among: Flags | None) -> F64:
    low = (carbon if among is None else np.where(among, carbon, np.inf)).min(axis=-1, keepdims=True)
    high = (carbon if among is None else np.where(among, carbon, -np.inf)).max(axis=-1, keepdims=True)
    differ = high > low  # also False where nobody is left, which leaves infinities behind
    span = np.where(differ, high - low, 1.0)
    return np.clip(np.where(differ, high - carbon, span) / span, 0.0, 1.0)


def total_score(scores: Scores, weights: Weights) -> F64:
    """S_total of each node (..., P)."""
    return (
        weights.resource * scores.resource
        + weights.load * scores.load
        + weights.performance * scores.performance
        + weights.balance * scores.balance
        + weights.carbon * scores.carbon
    )  # eq (3)


def best_node(total: F64, eligible: Flags) -> npt.NDArray[np.int64]:
    """The eligible node with the highest score, the first among equals; `NOBODY` where there is none (...)."""
    offered = np.where(eligible, total, 0.0)  # Algorithm 1 line 1: best_score = 0
    return np.where(offered.max(axis=-1) > 0.0, offered.argmax(axis=-1), NOBODY)  # lines 13 and 14


def with_carbon_weight(weights: Weights, carbon: float) -> Weights:
    """The same weights with another w_C; the others keep their proportions and share 1 - w_C.

    The paper does not say what its weight sweep does with the other four; this is inferred.
    """
    others = sum(weights[:4])
    scale = (1.0 - carbon) / others if others else 0.0
    resource, load, performance, balance = (w * scale for w in weights[:4])
    return Weights(resource, load, performance, balance, carbon)
