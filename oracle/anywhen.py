"""A bound that knows nothing of queues: each request on its own, at the best moment that it could meet.

Where arrivals are given, the moment is given too; this is then the bound of sites with split placements, which reach
their link at a time that the device's queue decides, so that `arcs` cannot follow them.

In a closed loop the next request is issued when the last one is answered, so a plan decides which second of links,
loads and grids a request meets. Here it meets the best: every placement is priced by the physics' own functions in each
different second that the episode may still reach, with no queue of its own, an awake radio and the luckiest tick of the
node's history. The budget problem over these costs is below every plan. Where the world does not change, as in Khan et
al.'s setting, nothing is given away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.records import OUTCOME
from ..envs.schema import Scenario
from ..envs.tape import Tape
from .arcs import ALWAYS_MS, NEVER_MS, price_send, price_serve
from .budget import solve_budget
from .compiling import compiled
from .relaxation import level_extremes, rows_at
from .replay import columns_of, start

F64 = npt.NDArray[np.float64]


@compiled
def price_anywhen(
    sites: Any, placements: Any, tables: Any, tape: Any, state: Any, sendings: Any, outcomes: Any, extremes: Any,
    worlds_of: Any, pick: Any, gap_ms: Any, states: int, carbon: Any, latency: Any,
) -> None:  # fmt: skip
    """Least carbon and latency of each request and placement (N, P).

    Args:
        sites, placements, tables, tape, state, sendings, outcomes, extremes: as in `arcs.enumerate_arcs`.
        worlds_of: the different worlds, as rows of the tape (U, R).
        pick: the world of each request (N,); negative where it may be any.
        gap_ms: time since the request before (N,); negative where the plan decides it.
        states: congestion states of a connection.
        carbon, latency: to fill.
    """
    site, s, o = sites[0], sendings[0], outcomes[0]
    _, _, payload, noise, _, _ = tape
    episodes, links, nodes, servers, _, _, worlds, _, _ = state
    floats, integers, idle = tables
    e = episodes[0]
    e.tail_until_ms, e.throttled, e.issued_ms = ALWAYS_MS, 0.0, 0.0
    for n in range(carbon.shape[0]):
        # The last request took at least its least latency, and its idle power is charged to this one.
        e.previous_ms = -gap_ms[n] if gap_ms[n] >= 0.0 else 0.0 if n == 0 else -latency[n - 1].min()
        e.n = n
        carbon[n], latency[n] = np.inf, np.inf
        for u in range(worlds_of.shape[0]):
            if pick[n] >= 0 and pick[n] != u:
                continue
            worlds[0] = worlds_of[u]
            for link in range(links.shape[1]):
                links[0, link].free_ms = NEVER_MS
                worlds[0, site.row_blocked + link] = 0.0
            for a in range(placements.shape[0]):
                p = placements[a]
                for connection in range(states if p.tcp == 1 else 1):
                    nodes[0, p.node].connection, nodes[0, p.node].position_ms = connection, 0.0
                    price_send(
                        site, p, e, links, nodes, floats, integers, worlds, payload[n, 0], noise[n, a, 0], s
                    )
                    for least in range(2):
                        s.wait_ms, s.batch = extremes[a, s.level, 0], extremes[a, s.level, 1 + least]
                        price_serve(site, p, a, e, nodes, servers, floats, idle, worlds, s, o)
                        carbon[n, a] = min(carbon[n, a], o.carbon_mg)
                        latency[n, a] = min(latency[n, a], o.latency_ms)


def least_costs(scenario: Scenario, tape: Tape, episode: int) -> tuple[F64, F64]:
    """Carbon (mg) and latency (ms) that no plan can undercut, by request and placement (N, P)."""
    simulator = start(scenario, columns_of(tape, np.array([episode])))
    c, requests = simulator.constants, scenario.episode.requests
    rows = simulator.tape.rows[: simulator.site.rows.count, :, 0].T
    gap_ms = np.full(requests, -1.0)
    if simulator.tape.arrivals_ms is not None:
        worlds = rows[np.minimum(rows_at(scenario, simulator.tape, 0)[:requests], len(rows) - 1)]
        pick, gap_ms = np.arange(requests), np.diff(simulator.tape.arrivals_ms[:requests, 0], prepend=0.0)
    elif scenario.world_clock == "request":
        worlds, pick = rows, np.minimum(np.arange(requests), len(rows) - 1)
    else:
        last = min(int(simulator.tape.valid_rows[0]), len(rows))
        worlds = _different(rows[simulator.tape.warmup : max(last, simulator.tape.warmup + 1)], simulator)
        pick = np.full(requests, -1)
    states = max([1, *(t.n_states for t in simulator.site.transfers if t is not None)])
    carbon = np.zeros((requests, len(c.placements)))
    latency = np.zeros_like(carbon)
    price_anywhen(
        c.sites, c.placements, c.tables, simulator._arguments[4], simulator.state.arrays, simulator._sendings,
        np.zeros(1, OUTCOME).view(np.recarray), level_extremes(simulator),
        np.ascontiguousarray(worlds, dtype=np.float32), pick.astype(np.int64), gap_ms, states, carbon, latency,
    )  # fmt: skip
    if simulator.tape.allowed is not None:  # what the mask forbids, the device does
        forbidden = ~simulator.tape.allowed[:, 0]
        carbon[:, forbidden], latency[:, forbidden] = carbon[:, :1], latency[:, :1]
    return carbon, latency


def _different(rows: npt.NDArray, simulator: Any) -> npt.NDArray:
    """Seconds that differ in what the physics reads; beliefs and telemetry do not matter."""
    truth = rows[:, : simulator.site.rows.start["believed_ms"]]
    return rows[np.unique(truth, axis=0, return_index=True)[1]]


def anywhen_bound(scenario: Scenario, tape: Tape, episode: int, ends: int | None) -> float:
    """Carbon per request below that of every plan that keeps the SLO, mg; infinite if none can.

    Args:
        scenario, tape, episode: the episode.
        ends: requests that are played; None if that depends on the plan, which may then end it after any request.
    """
    carbon, latency = least_costs(scenario, tape, episode)
    slo = scenario.slo
    lengths = [ends] if ends is not None else range(1, scenario.episode.requests + 1)
    bound = np.inf
    for n in lengths:
        solution = solve_budget(carbon[:n], latency[:n], slo.latency_ms, slo.quantile)
        if solution.feasible:
            bound = min(bound, solution.carbon_mg / n)
    return float(bound - 1e-9 * abs(bound)) if np.isfinite(bound) else bound
