"""Stretches of a run in which its links were alike: found from the probes alone, whatever made them change."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .world import World

F64 = npt.NDArray[np.float64]

LEAST_S = 5  # a stretch shorter than this is not told apart
RATIO, LEAST_MS = 1.5, 2.0  # round-trip times must differ by this factor, and by this much
STANDARD_ERRORS = 5.0  # and by this many, so that jitter alone makes no new stretch
MOST = 12  # stretches; a link that wanders all the time is not cut into crumbs


@dataclass(frozen=True)
class Condition:
    """A stretch.

    Attributes:
        start_s, end_s: whole seconds from the tape's beginning, end not included.
        rtt_ms: median by link; infinite where it let nothing through.
        name: for tables, as "uplink 30.2 ms".
    """

    start_s: int
    end_s: int
    rtt_ms: dict[str, float]

    @property
    def seconds(self) -> int:
        """Length."""
        return self.end_s - self.start_s

    @property
    def blocked(self) -> bool:
        """Whether a link let nothing through."""
        return not np.isfinite(list(self.rtt_ms.values())).all()

    @property
    def name(self) -> str:
        """What the links were, for tables."""
        if not self.rtt_ms:
            return "no link"
        return ", ".join(f"{k} {v:.3g} ms" if np.isfinite(v) else f"{k} cut" for k, v in self.rtt_ms.items())

    def __contains__(self, second: int) -> bool:
        return self.start_s <= second < self.end_s


def conditions(world: World) -> list[Condition]:
    """Cut a run where a link changed."""
    cuts = {0, world.seconds}
    for link in world.links.values():
        cuts |= set(_outages(link.blocked))
    for link in world.links.values():
        level = np.log(np.maximum(link.rtt_ms, 0.1))
        edges = sorted(cuts)
        for start, end in pairwise(edges):
            if not link.blocked[start:end].all():
                cuts |= set(_split(level, start, end))
    edges = sorted(cuts)
    if len(edges) > MOST + 1:
        edges = [*edges[:MOST], edges[-1]]
    return [_condition(world, a, b) for a, b in pairwise(edges)]


def _condition(world: World, start: int, end: int) -> Condition:
    rtt_ms = {}
    for name, link in world.links.items():
        open_ = ~link.blocked[start:end]
        cut = open_.mean() < 0.5
        rtt_ms[name] = float("inf") if cut else float(np.median(link.rtt_ms[start:end][open_]))
    return Condition(start, end, rtt_ms)


def _outages(blocked: npt.NDArray[np.bool_]) -> list[int]:
    """Bounds of stretches without an answer that are long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], blocked.astype(np.int8), [0]])))
    pairs = edges.reshape(-1, 2)
    return [int(e) for a, b in pairs if b - a >= LEAST_S for e in (a, b)]


def _split(level: F64, start: int, end: int) -> list[int]:
    """Binary segmentation of a series in which a change is a step (Scott and Knott 1974)."""
    size = end - start
    if size < 2 * LEAST_S:
        return []
    part = level[start:end]
    before = np.arange(LEAST_S, size - LEAST_S + 1)
    sums = np.cumsum(part)
    left = sums[before - 1] / before
    right = (sums[-1] - sums[before - 1]) / (size - before)
    # Between-group sum of squares; the best cut makes it largest.
    best = int(np.argmax((left - right) ** 2 * before * (size - before)))
    cut = int(before[best])
    a, b = part[:cut], part[cut:]
    difference = abs(float(np.median(a) - np.median(b)))
    error = float(np.sqrt(a.var() / a.size + b.var() / b.size))
    apart_ms = abs(float(np.exp(np.median(a)) - np.exp(np.median(b))))
    if difference < max(np.log(RATIO), STANDARD_ERRORS * error) or apart_ms < LEAST_MS:
        return []
    middle = start + cut
    return [*_split(level, start, middle), middle, *_split(level, middle, end)]
