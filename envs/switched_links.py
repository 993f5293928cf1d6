"""Links that switch between known conditions at random: what a site was measured to do, in no fixed order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .schema import SwitchedLink
from .streams import Stream
from .world_types import F32, LinkWorld


def next_second(source: SwitchedLink) -> npt.NDArray[np.float64]:
    """Chance of each condition one second later (C, C), rows sum to 1.

    A stay ends with probability 1 - exp(-1 / mean_stay_s) in each second, so that its length is geometric.
    """
    conditions = list(source.conditions.values())
    weight = np.array([c.weight for c in conditions])
    leave = 1.0 - np.exp(-1.0 / np.array([c.mean_stay_s for c in conditions]))
    to = np.repeat(weight[None, :], weight.size, axis=0)
    np.fill_diagonal(to, 0.0)  # a condition is never its own successor
    to *= (leave / to.sum(axis=1))[:, None]
    np.fill_diagonal(to, 1.0 - leave)
    return to


def long_run_shares(chain: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of time in each condition (C,): the chain's stationary distribution."""
    count = len(chain)
    equations = np.vstack([chain.T - np.eye(count), np.ones(count)])
    shares = np.linalg.lstsq(equations, np.append(np.zeros(count), 1.0), rcond=None)[0]
    return np.asarray(shares, dtype=np.float64)


def draw_switched(source: SwitchedLink, stream: Stream, rows: int) -> tuple[LinkWorld, F32]:
    """Draw the conditions of a batch of episodes.

    Args:
        source: the conditions.
        stream: random stream of the link, of B episodes.
        rows: seconds wanted.

    Returns:
        what the link does, and its rate in Mbit/s (rows, B).
    """
    chain = next_second(source)
    bounds = np.cumsum(chain, axis=1)[:, :-1]
    state = np.empty((rows, stream.keys.size), dtype=np.intp)
    draws = stream.uniform(rows)
    state[0] = np.searchsorted(np.cumsum(long_run_shares(chain))[:-1], draws[0], side="right")
    for row in range(1, rows):
        state[row] = (draws[row][:, None] >= bounds[state[row - 1]]).sum(axis=1)
    conditions = list(source.conditions.values())

    def column(values: list[float]) -> F32:
        return np.array(values, dtype=np.float32)[state]

    world = LinkWorld(
        rtt_ms=column([c.rtt_ms for c in conditions]),
        jitter_ms=column([c.jitter_ms for c in conditions]),
        loss=column([c.loss_pct / 100.0 for c in conditions]),
        rate_shape=np.ones(state.shape, dtype=np.float32),
        blocked=np.array([c.outage is True for c in conditions])[state],
        valid_rows=np.full(state.shape[1], rows),
    )
    return world, column([c.rate_mbps for c in conditions])
