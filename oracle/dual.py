"""The prices that make the coupled bound as large as it gets.

The bound is a concave function of the prices; its slope at each is by how much the subproblems disagree there. It
is climbed with Adam's step (Kingma and Ba 2015), whose size does not depend on the unit of a price. Most arcs never
matter, so the climb looks at those near the best paths and takes all of them now and then; only then is it a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arcs import LATE_MS
from .relaxation import NodeArcs, Relaxation
from .subproblems import arcs_within, device_path, device_values, link_values, node_values

F64 = npt.NDArray[np.float64]
BUSY_MS = 100.0  # a step of the flagship, so that all prices are of one size
BACKLOG_LEVELS = 256  # ms of device backlog that are told apart


@dataclass
class Prices:
    """What the subproblems charge each other, mg: see `subproblems`.

    Attributes:
        miss: of a miss.
        busy: of 100 ms of a busy link.
        offload: (N,).
        entry, leave: (N, L, J).
    """

    miss: float
    busy: float
    offload: F64
    entry: F64
    leave: F64

    def flat(self) -> F64:
        """All prices in one array."""
        return np.concatenate([[self.miss, self.busy], self.offload, self.entry.ravel(), self.leave.ravel()])

    def like(self, flat: F64) -> Prices:
        """Prices of the same shape from one array."""
        n, size = self.offload.size, self.entry.size
        entry, leave = flat[2 + n : 2 + n + size], flat[2 + n + size :]
        return Prices(
            float(flat[0]),
            float(flat[1]),
            flat[2 : 2 + n],
            entry.reshape(self.entry.shape),
            leave.reshape(self.leave.shape),
        )


@dataclass(frozen=True)
class ValuesToGo:
    """Best values-to-go of every subproblem under some prices; their sum is below the best plan's cost-to-go.

    Attributes:
        total_mg: the bound of carbon + price x (misses - allowed), over the episode.
        device: (N + 1, 2, D); link: (L, N + 1, J); node: one (N + 1, S) for each of `Relaxation.nodes`.
        slope: how much the subproblems disagree, by price, as `Prices.flat`.
    """

    total_mg: float
    device: F64
    link: F64
    node: tuple[F64, ...]
    slope: F64


def evaluate(relaxed: Relaxation, prices: Prices, nodes: tuple[NodeArcs, ...] | None = None) -> ValuesToGo:
    """Solve the subproblems; with ``nodes`` of fewer arcs than all the total is no bound."""
    nodes = relaxed.nodes if nodes is None else nodes
    requests, links, bins = prices.entry.shape
    offloaded, sent = np.zeros(requests), np.zeros(requests)
    entered, left = np.zeros_like(prices.entry), np.zeros_like(prices.leave)
    device = np.empty((requests + 1, 2, BACKLOG_LEVELS))
    own = (
        relaxed.local, relaxed.local_ms, relaxed.local_mg, relaxed.gap_ms, relaxed.slo_ms, prices.miss, prices.offload,
        relaxed.wake_mg, relaxed.awake_mg, device,
    )  # fmt: skip
    total = device_values(*own)
    misses = device_path(*own, offloaded)
    link = np.empty((links, requests + 1, bins))
    busy, busy_ms = prices.busy / BUSY_MS, 0.0
    for i in range(links):
        value, late_ms = link_values(
            LATE_MS, relaxed.start_ms[:, i], relaxed.longest_ms[:, i], relaxed.possible[:, i], busy, relaxed.refund,
            prices.offload, prices.entry[:, i], prices.leave[:, i], relaxed.least[:, i], relaxed.most[:, i], link[i],
            sent, entered[:, i], left[:, i],
        )  # fmt: skip
        total, busy_ms = total + value, busy_ms + late_ms
    node = []
    for k in nodes:
        node.append(np.empty((requests + 1, relaxed.states)))
        value, missed, sent_ms = node_values(
            k.arcs, k.first, prices.miss, busy, prices.entry[:, k.link], prices.leave[:, k.link], k.initial,
            node[-1], entered[:, k.link], left[:, k.link],
        )  # fmt: skip
        total, misses, busy_ms = total + value, misses + missed, busy_ms - sent_ms
    slope = Prices(float(misses - relaxed.allowed), busy_ms / BUSY_MS, offloaded - sent, entered, left).flat()
    return ValuesToGo(total - prices.miss * relaxed.allowed, device, link, tuple(node), slope)


def near_best(
    relaxed: Relaxation, prices: Prices, values: ValuesToGo, slack_mg: float
) -> tuple[NodeArcs, ...]:
    """The arcs on paths that are at most ``slack_mg`` worse than their node's best."""
    found = []
    for k, of_node in zip(relaxed.nodes, values.node, strict=True):
        kept = np.zeros(k.arcs.size, dtype=np.bool_)
        arcs_within(
            k.arcs, k.first, prices.miss, prices.busy / BUSY_MS, prices.entry[:, k.link], prices.leave[:, k.link],
            k.initial, of_node, slack_mg, kept,
        )  # fmt: skip
        found.append(k.only(kept))
    return tuple(found)


@dataclass(frozen=True)
class Climb:
    """How the prices are searched.

    Attributes:
        steps: steps in all.
        first, last: step size at the start and the end, share of a typical arc's cost; geometric in between.
        refresh: steps between two looks at all arcs.
        slack: arcs on paths that are this many typical costs worse than the best stay in sight.
    """

    steps: int = 400
    first: float = 0.05
    last: float = 0.0005
    refresh: int = 40
    slack: float = 12.0


MEMORY, SQUARES = 0.9, 0.99  # Adam's decay of the mean slope and of its square
SETTLE = (
    0.3  # share of the steps before the price of a miss moves: until then its slope is that of a wild start
)
MISS_RATE = 3.0  # then it moves faster than the others, because it is one and has far to go
FIRST_BUSY = 0.3  # where the price of a busy link starts, in typical costs
FIRST_MISS = 0.6  # where it starts, in typical costs


def typical_cost(relaxed: Relaxation) -> F64:
    """A typical cost of offloading each request (N,), mg: the median of its arcs that find the link idle."""
    out = np.zeros(relaxed.requests)
    for n in range(relaxed.requests):
        costs = [k.arcs[k.first[n] : k.first[n + 1]] for k in relaxed.nodes]
        idle = np.concatenate([c["cost"][c["late"] == 0] for c in costs]) if costs else np.zeros(0)
        out[n] = np.median(idle) if idle.size else 0.0
    return out


def first_prices(relaxed: Relaxation) -> Prices:
    """Where the climb starts: offloading costs what it typically does, a miss somewhat less."""
    offload = typical_cost(relaxed)
    shape = relaxed.least.shape
    entry = np.broadcast_to(offload[:, None, None], shape).copy()
    typical = float(np.mean(np.abs(offload)))
    return Prices(FIRST_MISS * typical, FIRST_BUSY * typical, offload, entry, np.zeros(shape))


def climb(
    relaxed: Relaxation, prices: Prices, how: Climb, fixed_miss: bool = False
) -> tuple[Prices, ValuesToGo]:
    """Raise the bound; returns the best prices found and their values, over all arcs.

    Args:
        relaxed: the episode.
        prices: where to start.
        how: length and size of the steps.
        fixed_miss: leave the price of a miss as it is.
    """
    scale = max(float(np.median(np.abs(prices.offload))), 1e-9)
    x = prices.flat()
    mean, square = np.zeros_like(x), np.zeros_like(x)
    best, best_values = prices, evaluate(relaxed, prices)
    nodes = near_best(relaxed, best, best_values, how.slack * scale)
    for i in range(1, how.steps + 1):
        slope = evaluate(relaxed, prices, nodes).slope
        mean = MEMORY * mean + (1 - MEMORY) * slope
        square = SQUARES * square + (1 - SQUARES) * slope * slope
        size = scale * how.first * (how.last / how.first) ** (i / how.steps)
        step = size * (mean / (1 - MEMORY**i)) / (np.sqrt(square / (1 - SQUARES**i)) + 1e-9)
        if fixed_miss or i < SETTLE * how.steps:
            step[0] = 0.0
        step[0] *= MISS_RATE
        x = x + step
        x[:2] = np.maximum(
            x[:2], 0.0
        )  # missing less than allowed costs nothing, nor does sending more than needed
        prices = prices.like(x)
        if i % how.refresh == 0 or i == how.steps:
            values = evaluate(relaxed, prices)
            if values.total_mg > best_values.total_mg:
                best, best_values = prices, values
            nodes = near_best(relaxed, prices, values, how.slack * scale)
    return best, best_values
