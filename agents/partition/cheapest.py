"""The plan of least latency, energy or CO2, exact, by dynamic programming over boundaries and nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .costs import F64
from .plan import Plan, evaluate
from .problem import Problem


def cheapest(problem: Problem, measure: str, limit_ms: float | None = None) -> Plan | None:
    """The plan with the least of a measure; of equal ones the quickest.

    Args:
        problem: blocks and nodes.
        measure: "latency_ms", "energy_j" or "carbon_mg".
        limit_ms: latency that the plan must not exceed; None: any.

    Returns:
        The plan, or None where none can run, or none within the limit.
    """
    free = _shortest(problem, measure)
    if free is None or limit_ms is None or free.latency_ms <= limit_ms:
        return free
    return _shortest_within(problem, measure, limit_ms)


def _shortest(problem: Problem, measure: str) -> Plan | None:
    """Without a limit, in O(blocks x nodes^2).

    Cost and latency are both sums, and pairs of sums that are compared in order add up as numbers do, so the best way
    to a boundary is part of the best way on.
    """
    count = len(problem.nodes)
    cost, crossing = problem.block[measure].tolist(), problem.crossing[measure].tolist()
    time, away = problem.block["latency_ms"].tolist(), problem.crossing["latency_ms"].tolist()
    # (cost, latency, boundary at which the node began, its predecessor's entry)
    at: list[tuple | None] = [(0.0, 0.0, 0, 0, None), *[None] * (count - 1)]
    for b in range(problem.blocks):
        came: list[tuple | None] = []
        for j in range(count):
            best = at[j]
            for i in range(j):
                source = at[i]
                if source is None:
                    continue
                new = (source[0] + crossing[b][i][j], source[1] + away[b][i][j])
                if new[1] < math.inf and (best is None or new < best[:2]):
                    best = (*new, j, b, source)
            came.append(best)
        at = [
            None if e is None or time[b][j] == math.inf else (e[0] + cost[b][j], e[1] + time[b][j], *e[2:])
            for j, e in enumerate(came)
        ]
    done = [entry for entry in at if entry is not None]
    if not done:
        return None
    return evaluate(problem, _ends(problem, min(done, key=lambda entry: entry[:2])))


def _ends(problem: Problem, entry: tuple) -> tuple[int, ...]:
    """Where each node stops, from the chain of entries (cost, latency, node, boundary it began at, predecessor)."""
    ends = [problem.blocks] * len(problem.nodes)
    step: tuple | None = entry
    while step is not None:
        node, began, before = step[2:]
        for k in range(node):
            ends[k] = min(ends[k], began)
        step = before
    return tuple(ends)


ROUNDING = 1e-12  # sums in another order must not lose a plan that meets the limit exactly


@dataclass(frozen=True)
class _Labels:
    """Ways to a boundary of which none is worse than another in both respects, by rising latency."""

    latency_ms: F64
    cost: F64
    starts: np.ndarray  # boundary at which each node began (L, N); the last one for nodes to come

    def later(self, latency_ms: float, cost: float) -> _Labels:
        return _Labels(self.latency_ms + latency_ms, self.cost + cost, self.starts)


def _shortest_within(problem: Problem, measure: str, limit_ms: float) -> Plan | None:
    """With a limit on another sum no single way to a boundary is the best: all that none other beats are kept.

    Those that cannot come to an end within the limit are dropped, by the least latency from there on.
    """
    count, blocks = len(problem.nodes), problem.blocks
    limit_ms *= 1.0 + ROUNDING
    ahead = _least_ahead(problem)
    cost, time = problem.block[measure], problem.block["latency_ms"]
    start = _Labels(np.zeros(1), np.zeros(1), np.array([[0, *[blocks] * (count - 1)]]))
    at: list[_Labels | None] = [start, *[None] * (count - 1)]
    for b in range(blocks):
        came: list[_Labels | None] = []
        for j in range(count):
            into = [] if at[j] is None else [at[j]]
            for i in range(j):
                source, away = at[i], float(problem.crossing["latency_ms"][b, i, j])
                if source is not None and away < math.inf:
                    moved = source.later(away, float(problem.crossing[measure][b, i, j]))
                    starts = moved.starts.copy()
                    starts[:, i + 1 : j + 1] = b
                    into.append(_Labels(moved.latency_ms, moved.cost, starts))
            came.append(
                _undominated([labels for labels in into if labels is not None], limit_ms - ahead[b, j])
            )
        at = [
            None
            if labels is None or time[b, j] == math.inf
            else labels.later(float(time[b, j]), float(cost[b, j]))
            for j, labels in enumerate(came)
        ]
    done = _undominated([labels for labels in at if labels is not None], limit_ms)
    if done is None:
        return None
    starts = done.starts[-1].tolist()  # the slowest is the cheapest
    return evaluate(problem, (*starts[1:], blocks))


def _least_ahead(problem: Problem) -> F64:
    """Least latency from a boundary, with the data on a node that goes on, to the end (B, N)."""
    time, away = problem.block["latency_ms"], problem.crossing["latency_ms"]
    ahead = np.zeros((problem.blocks + 1, len(problem.nodes)))
    for b in range(problem.blocks - 1, -1, -1):
        further = ahead[b + 1]
        if b + 1 < problem.blocks:
            further = np.minimum(further, (away[b + 1] + further[np.newaxis, :]).min(axis=1))
        ahead[b] = time[b] + further
    return ahead


def _undominated(into: list[_Labels], limit_ms: float) -> _Labels | None:
    if not into:
        return None
    latency = np.concatenate([labels.latency_ms for labels in into])
    cost = np.concatenate([labels.cost for labels in into])
    starts = np.concatenate([labels.starts for labels in into])
    order = np.lexsort((cost, latency))
    order = order[latency[order] <= limit_ms]
    if not order.size:
        return None
    best = np.minimum.accumulate(cost[order])
    kept = order[np.concatenate([[True], cost[order][1:] < best[:-1]])]
    return _Labels(latency[kept], cost[kept], starts[kept])
