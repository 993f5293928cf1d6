"""The relaxed episode: what does not depend on the plan, and every arc, made ready for the subproblems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.records import OUTCOME
from ..envs.schema import Scenario
from ..envs.sending import PER_S
from ..envs.simulator import Simulator
from ..envs.tape import Tape
from .arcs import ARC, LATE_MS, enumerate_arcs
from .replay import columns_of, start
from .result import allowed_misses

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
ROOM = 1 << 20  # arcs that there is room for at first


@dataclass(frozen=True)
class NodeArcs:
    """The arcs of one remote node; those of request n are ``first[n]`` to ``first[n + 1]``."""

    node: int
    link: int
    initial: int  # first congestion state of its connection
    arcs: npt.NDArray
    first: I64

    def only(self, kept: npt.NDArray[np.bool_]) -> NodeArcs:
        """The same node with fewer arcs."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return NodeArcs(self.node, self.link, self.initial, self.arcs[kept], before[self.first])


@dataclass(frozen=True)
class Relaxation:
    """One episode with open-loop arrivals.

    Attributes:
        requests: requests that are played; a trace that ends, ends them.
        allowed: misses that the SLO allows.
        slo_ms: the objective.
        arrivals_ms: issue times (N + 1,).
        gap_ms: time to the next request (N,).
        start_ms: when request n could start on each idle link: now, or at the end of a stall (N + 1, L).
        longest_ms: longest lateness that each link can have (N + 1, L).
        possible: bins of lateness that each link can have (N + 1, L, J).
        least, most: bins that a transfer entering in bin j can leave the link in (N, L, J).
        local: numbers of the local placements.
        local_ms, local_mg: service time on a cool device and carbon of each placement; 0 for remote ones (N, P).
        wake_mg: carbon of a whole radio tail (N,).
        awake_mg: carbon of staying awake until the next request (N,), at most.
        refund: carbon a ms of sending saves, because the radio does not wait meanwhile (N,), at least.
        tail_mg_per_ms: carbon of a ms of tail at each request (N,).
        tail_ms: length of the tail; 0 without a radio.
        states: number of congestion states.
        nodes: the remote nodes.
    """

    requests: int
    allowed: int
    slo_ms: float
    arrivals_ms: F64
    gap_ms: F64
    start_ms: F64
    longest_ms: F64
    possible: npt.NDArray[np.bool_]
    least: I64
    most: I64
    local: I64
    local_ms: F64
    local_mg: F64
    wake_mg: F64
    awake_mg: F64
    refund: F64
    tail_mg_per_ms: F64
    tail_ms: float
    states: int
    nodes: tuple[NodeArcs, ...]


def rows_at(scenario: Scenario, tape: Tape, episode: int) -> I64:
    """The tape's row at each request (N + 1,), past the end too; open-loop arrivals only."""
    count = scenario.episode.requests + 1
    if scenario.world_clock == "request":
        return np.arange(count)
    assert tape.arrivals_ms is not None
    return tape.warmup + (tape.arrivals_ms[:count, episode] * 0.001).astype(np.int64)


def requests_played(scenario: Scenario, tape: Tape, episode: int) -> int:
    """Requests until the episode ends: all, or those until the request after which a trace has no row left."""
    ended = rows_at(scenario, tape, episode)[1:] >= tape.valid_rows[episode]
    return int(ended.argmax()) + 1 if ended.any() else scenario.episode.requests


def relax(scenario: Scenario, tape: Tape, episode: int) -> Relaxation:
    """Relax one episode of a tape with open-loop arrivals."""
    simulator = start(scenario, columns_of(tape, np.array([episode])))
    requests = requests_played(scenario, tape, episode)
    start_ms, grid = _exogenous(simulator, rows_at(scenario, simulator.tape, 0), requests)
    site = simulator.constants.sites[0]
    # With several links the radio's gaps cannot be told from one link's: the wait between transfers is then free.
    per_ms = site.tail_w * PER_S if site.radio > 0 else 0.0
    waiting = per_ms if len(simulator.site.link_names) <= 1 else 0.0
    # The next transfer, whenever it comes, pays at the intensity of its own time.
    least_later = np.minimum.accumulate(grid[::-1])[::-1]
    most_later = np.maximum.accumulate(grid[::-1])[::-1]
    refund = waiting * most_later
    longest = np.zeros_like(start_ms)
    raw, first, possible, local_ms, local_mg = _enumerate(simulator, requests, start_ms, longest, refund)
    placements = simulator.constants.placements
    least, most = _exits(raw, first, placements, possible)
    arrivals = simulator.tape.arrivals_ms
    assert arrivals is not None
    return Relaxation(
        requests=requests,
        allowed=int(allowed_misses(requests, scenario.slo.quantile)),
        slo_ms=scenario.slo.latency_ms,
        arrivals_ms=arrivals[: requests + 1, 0],
        gap_ms=np.diff(arrivals[: requests + 1, 0]),
        start_ms=start_ms,
        longest_ms=longest,
        possible=possible,
        least=least,
        most=most,
        local=np.flatnonzero(placements.remote == 0).astype(np.int64),
        local_ms=local_ms[:, :, 0].copy(),
        local_mg=local_mg,
        wake_mg=per_ms * site.tail_ms * grid,
        awake_mg=waiting * np.diff(start_ms[:, 0]) * least_later if start_ms.shape[1] else np.zeros(requests),
        refund=refund,
        tail_mg_per_ms=per_ms * grid,
        tail_ms=site.tail_ms if site.radio > 0 else 0.0,
        states=_states(simulator),
        nodes=_there(_by_node(raw, first, placements), simulator.tape),
    )


def _exogenous(simulator: Simulator, rows: I64, requests: int) -> tuple[F64, F64]:
    """When each idle link could start (N + 1, L), and the device's grid in mg per joule (N,)."""
    tape, layout = simulator.tape, simulator.site.rows
    assert tape.arrivals_ms is not None
    row = np.minimum(rows[: requests + 1], tape.rows.shape[1] - 1)
    links = len(simulator.site.link_names)
    blocked = tape.rows[layout.start["blocked_until_ms"] :][:links, row, 0].T.astype(np.float64)
    start_ms = np.maximum(tape.arrivals_ms[: requests + 1, :1], blocked)
    # A stall may end earlier than an outage that began later; what matters is that starts never run backwards.
    grid = tape.rows[layout.start["carbon_mg_per_j"], row[:-1], 0].astype(np.float64)
    return start_ms, grid


def _states(simulator: Simulator) -> int:
    return max([1, *(t.n_states for t in simulator.site.transfers if t is not None)])


def _enumerate(simulator: Simulator, requests: int, start_ms: F64, longest: F64, refund: F64) -> tuple:
    """Run `arcs.enumerate_arcs`; returns (arcs, first, possible, local_ms, local_mg)."""
    c, site = simulator.constants, simulator.site
    placements, nodes = len(c.placements), len(site.node_names)
    reach = np.zeros((nodes, _states(simulator)), dtype=np.bool_)
    reach[c.placements.node, c.placements.initial_state] = True
    possible = np.zeros((requests + 1, start_ms.shape[1], LATE_MS.size), dtype=np.bool_)
    possible[0, :, 0] = True
    local_ms, local_mg = np.zeros((requests, placements, 2)), np.zeros((requests, placements))
    first = np.zeros((requests, nodes + 1), dtype=np.int64)
    room, outcomes = ROOM, np.zeros(1, OUTCOME).view(np.recarray)
    tape, extremes = simulator._arguments[4], level_extremes(simulator)
    while True:
        arcs, again = np.zeros(room, ARC).view(np.recarray), possible.copy()
        count = enumerate_arcs(
            c.sites, c.placements, c.tables, tape, simulator.state.arrays, simulator._sendings, outcomes, extremes,
            LATE_MS, start_ms, longest, refund, requests, reach.copy(), again, local_ms, local_mg, first, arcs,
        )  # fmt: skip
        if count >= 0:
            return arcs[:count], first, again, local_ms, local_mg
        room *= 2


def level_extremes(simulator: Simulator) -> F64:
    """Least wait, least and largest batch of each placement's node at each load level (P, V, 3)."""
    banks = [simulator.site.banks[p.node] for p in simulator.constants.placements]
    levels = max([1, *(len(b.levels) for b in banks if b is not None)])
    out = np.zeros((len(banks), levels, 3))
    for a, bank in enumerate(banks):
        if bank is not None:
            found = bank.wait_ms.min(axis=1), bank.batch_size.min(axis=1), bank.batch_size.max(axis=1)
            out[a, : len(bank.levels)] = np.stack(found, axis=-1)
    return out


def _exits(raw: npt.NDArray, first: I64, placements: np.recarray, possible: npt.NDArray) -> tuple[I64, I64]:
    """Least and most bin that a transfer entering in each bin can leave its link in (N, L, J)."""
    requests, links, bins = possible.shape[0] - 1, possible.shape[1], possible.shape[2]
    least = np.full((requests, links, bins), bins, dtype=np.int64)
    most = np.full((requests, links, bins), -1, dtype=np.int64)
    request = np.repeat(np.arange(requests), first[:, -1] - first[:, 0])
    where = (request, placements.link[raw["placement"]], raw["late"])
    np.minimum.at(least, where, raw["least"])
    np.maximum.at(most, where, raw["most"])
    return least, most


def _there(nodes: tuple[NodeArcs, ...], tape: Tape) -> tuple[NodeArcs, ...]:
    """The nodes without arcs of placements that the mask of the one episode forbids."""
    if tape.allowed is None:
        return nodes
    allowed = tape.allowed[:, 0]
    return tuple(node.only(allowed[node.arcs["placement"]]) for node in nodes)


def _by_node(raw: npt.NDArray, first: I64, placements: np.recarray) -> tuple[NodeArcs, ...]:
    """Sort the arcs by node; within a node they stay in the order of the requests."""
    found = []
    for k in np.unique(placements.node[placements.remote == 1]):
        p = placements[placements.node == k][0]
        counts = first[:, k + 1] - first[:, k]
        starts = np.concatenate([[0], np.cumsum(counts)])
        mine = np.repeat(first[:, k] - starts[:-1], counts) + np.arange(starts[-1])
        found.append(NodeArcs(int(k), int(p.link), int(p.initial_state), raw[mine], starts))
    return tuple(found)
