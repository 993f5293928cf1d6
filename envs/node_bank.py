"""What a node's other tenants do to a request that arrives: precomputed event-exact histories.

A work-conserving FIFO server's backlog is the background tenants' own backlog plus our extra work, and the
extra work drains exactly while the background alone would be idle. So a history of two numbers is enough,
the background's wait V(t) and its cumulated idle time Y(t), and our own recursion stays exact whatever we
place there (M/G/1 with a shared queue). Histories are made once per node type and load level; an episode
reads them from a random start. With dynamic batching the history also holds the batch one would ride in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from .beliefs import SAMPLED_LEVELS, nearest_level
from .compiling import compiled
from .schema import Background, Batching, Node
from .units import full_batch_rate

TICK_MS = 2.0
SAMPLED_TICKS = 1 << 16  # 131 s a level
PHASED_TICKS = 1 << 19  # 1049 s a level, for loads that are given exactly
BATCHING_TICKS = 1 << 14  # 33 s a level: the batcher is ticked through, not solved
BANK_SEED = 20261120


F = TypeVar("F", bound=Callable[..., Any])


def remembered(function: F) -> F:
    """`functools.lru_cache` whose arguments may be frozen records, which type checkers think unhashable."""
    return cast("F", lru_cache(maxsize=32)(function))


@dataclass(frozen=True)
class NodeBank:
    """Histories of one node type.

    Attributes:
        levels: offered load of each level (L,), share of the node's capacity.
        wait_ms: time until an arrival in that tick would be served (L, T).
        idle_ms: cumulated idle time at the tick's middle (L, T).
        batch_size: images in the batch that an arrival would ride in (L, T).
        background_per_ms: arrivals of the other tenants a millisecond (L,).
    """

    levels: npt.NDArray[np.float64]
    wait_ms: npt.NDArray[np.float32]
    idle_ms: npt.NDArray[np.float64]
    batch_size: npt.NDArray[np.float32]
    background_per_ms: npt.NDArray[np.float64]

    @property
    def ticks(self) -> int:
        """Length of a history in ticks."""
        return self.wait_ms.shape[1]

    @cached_property
    def mean_wait_ms(self) -> npt.NDArray[np.float64]:
        """Mean wait of an arrival at each level (L,), ms."""
        return self.wait_ms.mean(axis=1, dtype=np.float64)

    @cached_property
    def mean_batch(self) -> npt.NDArray[np.float64]:
        """Mean batch that an arrival rides in at each level (L,)."""
        return self.batch_size.mean(axis=1, dtype=np.float64)

    def level_of(self, load: npt.NDArray) -> npt.NDArray[np.int64]:
        """Nearest level of each load."""
        return nearest_level(self.levels, load)


def capacity_per_ms(service_ms: float, parallelism: int, batching: Batching | None) -> float:
    """Requests a millisecond that a node can serve at most, full batches where it batches."""
    if batching is None:
        return full_batch_rate(service_ms, parallelism, 1, 0.0)
    return full_batch_rate(service_ms, parallelism, batching.max_batch, batching.marginal_service_share)


def bank_for(node: Node) -> NodeBank:
    """Build (or fetch) the histories of a node; without background only the idle level."""
    background = node.background
    if background is None:
        return _bank(None, (0.0,), node.parallelism, node.batching, 2)
    if background.phases is not None:
        loads = tuple(sorted({0.0} | {p.load for p in background.phases}))
        return _bank(
            background.model_copy(update={"phases": None}),
            loads,
            node.parallelism,
            node.batching,
            PHASED_TICKS if node.batching is None else BATCHING_TICKS,
        )
    plain = background.model_copy(
        update={
            "mean_low_load": None,
            "mean_high_load": None,
            "ar1_per_s": None,
            "sigma_load": None,
            "bursts": None,
        }
    )
    return _bank(
        plain,
        SAMPLED_LEVELS,
        node.parallelism,
        node.batching,
        SAMPLED_TICKS if node.batching is None else BATCHING_TICKS,
    )


@remembered
def _bank(
    background: Background | None,
    loads: tuple[float, ...],
    parallelism: int,
    batching: Batching | None,
    ticks: int,
) -> NodeBank:
    levels = np.array(loads)
    if background is None:
        return _idle_bank(levels, ticks, batching)
    rate = levels * capacity_per_ms(background.service_ms, parallelism, batching)
    if batching is not None:
        wait, idle, batch = _batching_history(background, rate, parallelism, batching, ticks)
    else:
        histories = [_fifo_history(background, r, rate.max(), parallelism, ticks) for r in rate]
        wait = np.stack([h[0] for h in histories])
        idle = np.stack([h[1] for h in histories])
        batch = np.ones_like(wait)
    return NodeBank(levels, wait.astype(np.float32), idle, batch.astype(np.float32), rate)


def _idle_bank(levels: npt.NDArray, ticks: int, batching: Batching | None) -> NodeBank:
    shape = (len(levels), ticks)
    wait = np.full(shape, batching.queue_delay_ms if batching else 0.0, dtype=np.float32)
    idle = np.broadcast_to((np.arange(ticks) + 0.5) * TICK_MS, shape).copy()
    return NodeBank(levels, wait, idle, np.ones(shape, dtype=np.float32), np.zeros(len(levels)))


def _arrivals(background: Background, rate: float, top_rate: float, ticks: int) -> tuple:
    """Poisson arrivals thinned from the busiest level, so that more load is never less work."""
    times, sizes, mark = _busiest_arrivals(background, top_rate, ticks)
    kept = mark * top_rate < rate
    return times[kept], sizes[kept]


@remembered
def _busiest_arrivals(background: Background, top_rate: float, ticks: int) -> tuple:
    """Times, sizes and a uniform mark of the busiest level's arrivals; the levels are built one after the other."""
    rng = np.random.Generator(np.random.SFC64(BANK_SEED))
    horizon = ticks * TICK_MS
    n = rng.poisson(top_rate * horizon)
    times = np.sort(rng.uniform(0, horizon, n))
    sizes = np.full(n, background.service_ms)
    if background.service_distribution == "exponential":
        sizes = rng.exponential(background.service_ms, n)
    return times, sizes, rng.uniform(0, 1, n)


def _fifo_history(
    background: Background, rate: float, top_rate: float, parallelism: int, ticks: int
) -> tuple:
    """Wait and idle time of FIFO servers, by reflection of the net input (exact for one server).

    Several servers are treated as one of their joint speed, as Ng et al. do (section 3.3).
    """
    middle = (np.arange(ticks) + 0.5) * TICK_MS
    times, sizes = _arrivals(background, rate, max(top_rate, 1e-12), ticks)
    work = np.concatenate([[0.0], np.cumsum(sizes / parallelism)])
    before = np.minimum.accumulate(np.concatenate([[0.0], work[:-1] - times]))  # net input just before each
    arrived = np.searchsorted(times, middle, side="right")
    net = work[arrived] - middle
    lowest = np.minimum(before[arrived], np.minimum(net, 0.0))
    return net - lowest, -lowest


def _batching_history(
    background: Background, rate: npt.NDArray, parallelism: int, batching: Batching, ticks: int
) -> tuple:
    """Tick through Triton's dynamic batcher, one load level after the other."""
    counts = np.zeros((len(rate), ticks), dtype=np.int64)
    for i, r in enumerate(rate):
        times, _ = _arrivals(background, r, rate.max(), ticks)
        counts[i] = np.bincount((times / TICK_MS).astype(np.int64), minlength=ticks)[:ticks]
    wait, idle, batch = (np.zeros((len(rate), ticks)) for _ in range(3))
    busy = np.zeros(parallelism)
    numbers = (
        batching.max_batch,
        batching.queue_delay_ms,
        batching.marginal_service_share,
        background.service_ms,
    )
    for i in range(len(rate)):
        busy[:] = 0.0
        _tick_through(counts[i], busy, numbers, wait[i], idle[i], batch[i])
    return wait, idle, batch


@compiled
def _tick_through(counts: npt.NDArray, busy: npt.NDArray, numbers: tuple, wait: npt.NDArray, idle: npt.NDArray,
                  batch: npt.NDArray) -> None:  # fmt: skip
    """One load level: arrivals by tick (T,), each server's remaining work (ms), and the histories (T,) to fill."""
    full, delay, share, one = numbers
    queued, age, idle_sum = 0.0, 0.0, 0.0
    for t in range(counts.size):
        queued += counts[t]
        for k in range(busy.size):
            if busy[k] <= 0.0 and queued > 0.0 and (queued >= full or age >= delay):
                size = min(queued, float(full))
                busy[k] += one * (1.0 + share * (size - 1.0))
                queued -= size
                age = 0.0
        free_in = max(busy.min(), 0.0)
        behind = np.floor(queued / full) * one * (1.0 + share * (full - 1.0)) / busy.size
        wait[t] = max(free_in + behind, delay - age)
        batch[t] = queued % full + 1.0
        if free_in <= 0.0 and queued == 0.0:
            idle_sum += TICK_MS
        idle[t] = idle_sum
        for k in range(busy.size):
            busy[k] = max(busy[k] - TICK_MS, -TICK_MS)
        age = age + TICK_MS if queued > 0.0 else 0.0
