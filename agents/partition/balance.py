"""CarbonEdge's partition: the load balanced over all nodes with little to communicate, and its green variant; exact.

The paper gives the aim and no formula (section III-E). Here each stretch and each crossing is a stage, a stream of
requests is as quick as the slowest stage, and balancing means to make the slowest stage as quick as can be. Crossings
are stages too, so communication is limited by the same measure. Every node gets at least one operation.
"""

from __future__ import annotations

import math

import numpy as np

from ...envs.errors import InputError
from .costs import F64
from .plan import Plan, evaluate
from .problem import Problem

GREEN_WEIGHT = 0.5  # CarbonEdge Table I, w_C of the mode Green


def balanced(problem: Problem) -> Plan | None:
    """The partition over all nodes with the least bottleneck; of equal ones the one with the least to cross.

    Returns:
        The plan, or None where not all nodes can have a part.

    Raises:
        InputError: there are fewer blocks than nodes.
    """
    return _balanced(_Stages(problem))


def green(problem: Problem, weight: float = GREEN_WEIGHT) -> Plan | None:
    """The partition over all nodes with the least weighted sum of bottleneck and CO2.

    (1 - weight) x bottleneck / least bottleneck + weight x CO2 / least CO2, both least ones over the same partitions.
    It lies on the front of the two, which is walked from the least CO2 on: each step asks for the least CO2 with a
    bottleneck below the last one's.

    Returns:
        The plan, or None where not all nodes can have a part.

    Raises:
        InputError: there are fewer blocks than nodes.
    """
    stages = _Stages(problem)
    quickest = _balanced(stages)
    if quickest is None:
        return None
    front = _front(stages)
    least_mg = front[0].carbon_mg

    def score(plan: Plan) -> float:
        carbon = plan.carbon_mg / least_mg if least_mg > 0 else 1.0
        load = plan.bottleneck_ms / quickest.bottleneck_ms if quickest.bottleneck_ms > 0 else 1.0
        return (1.0 - weight) * load + weight * carbon

    return min(front, key=score)


class _Stages:
    """Tables by node and pair of boundaries: duration of a stage, and what is to be summed up."""

    def __init__(self, problem: Problem) -> None:
        count, blocks = len(problem.nodes), problem.blocks
        if blocks < count:
            raise InputError(
                f"{count} nodes are to have a part each, and {blocks - 1} cuts make {blocks} parts. Leave nodes out, "
                "or take --objective latency, energy or carbon, which may leave a node empty."
            )
        self.problem = problem
        self.load = [_between(problem.block["latency_ms"][:, k]) for k in range(count)]
        self.carbon = [_between(problem.block["carbon_mg"][:, k]) for k in range(count)]
        # Crossing to node k from the one before at each boundary; there is none to the first.
        self.away = [
            np.zeros(blocks),
            *(problem.crossing["latency_ms"][:, k - 1, k] for k in range(1, count)),
        ]
        self.away_mg = [
            np.zeros(blocks),
            *(problem.crossing["carbon_mg"][:, k - 1, k] for k in range(1, count)),
        ]

    def least_sum(self, kind: str, limit_ms: float, strictly: bool = False) -> Plan | None:
        """The plan with the least crossing time ("crossing") or CO2 ("carbon") whose stages all keep the limit."""
        blocks = self.problem.blocks
        reached = np.full(blocks + 1, np.inf)
        reached[0] = 0.0
        came: list[np.ndarray] = []
        for load, carbon, away, away_mg in zip(self.load, self.carbon, self.away, self.away_mg, strict=True):
            fits = (np.less if strictly else np.less_equal)(np.maximum(load, away[:, np.newaxis]), limit_ms)
            each = away[:, np.newaxis] if kind == "crossing" else carbon + away_mg[:, np.newaxis]
            total = np.where(fits, reached[:blocks, np.newaxis] + each, np.inf)
            came.append(total.argmin(axis=0))
            reached = total.min(axis=0)
        if reached[blocks] == math.inf:
            return None
        ends, at = [], blocks
        for begins in reversed(came):
            ends.append(at)
            at = int(begins[at])
        return evaluate(self.problem, tuple(reversed(ends)))

    def bottleneck_ms(self, ends: tuple[int, ...]) -> float:
        """Of a plan, by the same sums as those that limits are compared with."""
        starts = (0, *ends[:-1])
        parts = enumerate(zip(starts, ends, strict=True))
        return float(max(max(self.load[k][a, b], self.away[k][a]) for k, (a, b) in parts))

    def least_bottleneck(self) -> float:
        """Of all plans, ms."""
        blocks = self.problem.blocks
        reached = np.full(blocks + 1, np.inf)
        reached[0] = 0.0
        for load, away in zip(self.load, self.away, strict=True):
            stage = np.maximum(load, away[:, np.newaxis])
            reached = np.maximum(reached[:blocks, np.newaxis], stage).min(axis=0)
        return float(reached[blocks])


def _balanced(stages: _Stages) -> Plan | None:
    bottleneck_ms = stages.least_bottleneck()
    return None if bottleneck_ms == math.inf else stages.least_sum("crossing", bottleneck_ms)


def _front(stages: _Stages) -> list[Plan]:
    """Plans of which none is both quicker and cleaner, from the cleanest to the quickest."""
    found, limit_ms = [], math.inf
    while (plan := stages.least_sum("carbon", limit_ms, strictly=True)) is not None:
        found.append(plan)
        limit_ms = stages.bottleneck_ms(plan.ends)
    return found


def _between(each: F64) -> F64:
    """Sums of blocks a to b (B, B + 1) for a < b; infinite elsewhere."""
    blocks = len(each)
    finite = np.where(np.isinf(each), 0.0, each)
    summed = np.concatenate([[0.0], np.cumsum(finite)])
    barred = np.concatenate([[0], np.cumsum(np.isinf(each))])
    table = summed[np.newaxis, :] - summed[:blocks, np.newaxis]
    usable = (barred[np.newaxis, :] == barred[:blocks, np.newaxis]) & (
        np.arange(blocks + 1)[np.newaxis, :] > np.arange(blocks)[:, np.newaxis]
    )
    return np.where(usable, table, np.inf)
