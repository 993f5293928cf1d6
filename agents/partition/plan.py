"""What a plan comes to: which node computes which stretch, and latency, energy and CO2 of it."""

from __future__ import annotations

from dataclasses import dataclass

from .problem import MEASURES, Problem


@dataclass(frozen=True)
class Stretch:
    """What one node does.

    Attributes:
        node: its number.
        first, last: boundaries that it begins and ends at.
    """

    node: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """A way to share the blocks out.

    Attributes:
        ends: boundary at which each node stops (N,); a node that stops where the one before it did computes nothing.
        latency_ms, energy_j, carbon_mg: of a request alone.
        bottleneck_ms: the longest of all stretches and crossings, which a stream of requests waits for.
        crossing_ms, crossing_kb: all that crosses.
    """

    ends: tuple[int, ...]
    latency_ms: float
    energy_j: float
    carbon_mg: float
    bottleneck_ms: float
    crossing_ms: float
    crossing_kb: float

    @property
    def stretches(self) -> list[Stretch]:
        """Of the nodes that compute something."""
        return stretches(self.ends)


def stretches(ends: tuple[int, ...]) -> list[Stretch]:
    """Stretches that are not empty."""
    starts = (0, *ends[:-1])
    return [
        Stretch(k, first, last)
        for k, (first, last) in enumerate(zip(starts, ends, strict=True))
        if last > first
    ]


def evaluate(problem: Problem, ends: tuple[int, ...]) -> Plan:
    """What a plan comes to; infinite where it cannot run."""
    totals = dict.fromkeys(MEASURES, 0.0)
    stages, crossings, crossing_kb, at = [0.0], [0.0], 0.0, 0
    for part in stretches(ends):
        rows = slice(part.first, part.last)
        for name in MEASURES:
            totals[name] += float(problem.block[name][rows, part.node].sum())
        stages.append(float(problem.block["latency_ms"][rows, part.node].sum()))
        if part.node != at:
            for name in MEASURES:
                totals[name] += float(problem.crossing[name][part.first, at, part.node])
            crossings.append(float(problem.crossing["latency_ms"][part.first, at, part.node]))
            crossing_kb += float(problem.crossing_kb[part.first])
        at = part.node
    return Plan(
        ends=ends,
        **totals,
        bottleneck_ms=max(*stages, *crossings),
        crossing_ms=sum(crossings),
        crossing_kb=crossing_kb,
    )


def whole(problem: Problem, node: int) -> Plan:
    """Everything on one node."""
    last = problem.blocks
    return evaluate(problem, tuple(0 if k < node else last for k in range(len(problem.nodes))))
