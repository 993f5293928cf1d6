"""Beam search through the real dynamics, led by the values-to-go of the coupled bound.

Several beams of one episode run abreast in one simulator, each under its own prices. A column is one partial plan; at
every request each is continued with every placement, and the best few, of different states, go on. What a plan costs is
never taken from here: it is replayed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from ..envs.simulator import Simulator
from ..envs.tape import Tape
from .arcs import LATE_MS
from .dual import Prices, ValuesToGo
from .relaxation import Relaxation
from .replay import columns_of, start

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
DYNAMIC = 4  # arrays of `State` that change outcomes: episodes, links, nodes, servers


def beam_plans(
    scenario: Scenario, tape: Tape, episode: int, relaxed: Relaxation, led_by: list[tuple[Prices, ValuesToGo]],
    width: int,
) -> I64:  # fmt: skip
    """Search plans of one episode under several prices.

    Args:
        scenario, tape, episode: the episode.
        relaxed: its relaxation.
        led_by: prices and values-to-go of each beam (G).
        width: partial plans that each beam keeps.

    Returns:
        One plan a beam (N, G); requests after the episode's end stay local.
    """
    placements, beams = len(scenario.placements), len(led_by)
    lanes = beams * width * placements
    simulator = start(scenario, columns_of(tape, np.full(lanes, episode)))
    guide = _Guide(relaxed, led_by, width * placements)
    price = np.array([p.miss for p, _ in led_by])[:, None]
    actions = np.tile(np.arange(placements), beams * width)
    spent = np.full((beams, width), np.inf)
    spent[:, 0] = 0.0
    parent = np.zeros((relaxed.requests, beams, width), dtype=np.int32)
    taken = np.zeros_like(parent)
    rows = np.arange(beams)[:, None]
    for n in range(relaxed.requests):
        outcome = simulator.step(actions).outcome
        cost = outcome.carbon_mg.reshape(beams, -1) + price * outcome.missed.reshape(beams, -1)
        cost += np.repeat(spent, placements, axis=1)
        total, state = guide.total(n + 1, simulator, cost)
        chosen = _best_of_each_state(total, state, width)
        spent = np.where(np.isfinite(total[rows, chosen]), cost[rows, chosen], np.inf)
        parent[n], taken[n] = chosen // placements, chosen % placements
        lane = np.repeat((chosen + rows * width * placements).ravel(), placements)
        for array in simulator.state.arrays[:DYNAMIC]:
            array[...] = array[lane]
    return _trace_back(parent, taken, spent.argmin(axis=1), scenario.episode.requests)


def _best_of_each_state(total: F64, state: I64, width: int) -> I64:
    """The best lanes of each beam, one for each state: (G, W P) to (G, W)."""
    chosen = np.zeros((len(total), width), dtype=np.int64)
    for g in range(len(total)):
        order = np.argsort(total[g], kind="stable")
        _, first = np.unique(state[g][order], return_index=True)
        best = order[np.sort(first)[:width]]
        spare = np.setdiff1d(order, best)
        total[g, spare] = np.inf  # where there are fewer states than room, the rest is out of the race
        chosen[g] = np.concatenate([best, spare])[:width]
    return chosen


def _trace_back(parent: npt.NDArray, taken: npt.NDArray, last: I64, requests: int) -> I64:
    played, beams = parent.shape[:2]
    plans, lane, g = np.zeros((requests, beams), dtype=np.int64), last, np.arange(beams)
    for n in range(played - 1, -1, -1):
        plans[n] = taken[n, g, lane]
        lane = parent[n, g, lane]
    return plans


class _Guide:
    """Adds the values-to-go to what lanes have spent, and tells which lanes are in the same state."""

    def __init__(self, relaxed: Relaxation, led_by: list[tuple[Prices, ValuesToGo]], lanes: int) -> None:
        self._relaxed = relaxed
        self._beam = np.repeat(np.arange(len(led_by)), lanes)
        self._device = np.stack([v.device for _, v in led_by])
        self._link = np.stack([v.link for _, v in led_by])
        self._node = [np.stack(v) for v in zip(*(v.node for _, v in led_by), strict=True)]

    def total(self, n: int, simulator: Simulator, cost: F64) -> tuple[F64, I64]:
        """Cost and cost-to-go (G, W P) of lanes that wait with request n, and a number for the state of each."""
        relaxed, g = self._relaxed, self._beam
        if n >= relaxed.requests:
            return cost.copy(), np.arange(cost.size).reshape(cost.shape)
        e: Any = simulator.state.episodes
        backlog = np.minimum(
            np.maximum(e.device_free_ms - relaxed.arrivals_ms[n], 0.0), self._device.shape[-1] - 1
        )
        backlog = backlog.astype(np.int64)
        asleep, awake = self._device[g, n, 0, backlog], self._device[g, n, 1, backlog]
        ahead = asleep
        state = backlog + 512 * (e.throttled > 0)
        if relaxed.tail_ms > 0:
            idle = np.clip(
                relaxed.start_ms[n].min() - (e.tail_until_ms - relaxed.tail_ms), 0.0, relaxed.tail_ms
            )
            ahead = np.minimum(asleep, awake + relaxed.tail_mg_per_ms[n] * idle)
            state = 2 * state + (idle < relaxed.tail_ms)
        for i in range(self._link.shape[1]):
            late = np.maximum(simulator.state.links.free_ms[:, i] - relaxed.start_ms[n, i], 0.0)
            ahead = ahead + self._link[g, i, n, np.searchsorted(LATE_MS, late)]
            state = 1024 * state + np.minimum(late, 1023.0).astype(np.int64)
        for k, values in zip(relaxed.nodes, self._node, strict=True):
            connection = simulator.state.nodes.connection[:, k.node].astype(np.int64)
            ahead = ahead + values[g, n, connection]
            state = 61 * state + connection
        return cost + ahead.reshape(cost.shape), state.reshape(cost.shape)
