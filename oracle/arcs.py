"""What a request can cost at best at each node, whatever else was placed: the pieces of the coupled bound.

An *arc* is one way to send request n to a node: the connection's congestion state before and after, how long the link
is still busy with our own bytes (a bin of lateness) before and after, the placement, its carbon and whether it misses.
The physics' own functions price it, on a state with no own work on the node and the radio awake; whatever a bin leaves
open is taken at its best. So every request of every plan has an arc that costs no more than the request did.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..envs.kernel import move_world
from ..envs.physics import serve
from ..envs.sending import TICKS_PER_MS, find_transfer, history_entry, send
from .compiling import compiled

NEVER_MS = -1e12
ALWAYS_MS = 1e15
ROUNDING_MS = 1e-7  # times of the same event may differ by rounding; a bound must not
MANY_TICKS = 64  # a longer stretch of a node's history is not searched: its best case is taken
# Lateness in ms: narrow bins at first, because two ticks of a node's history can differ by a whole batch. Fewer
# cost up to 9 % of the bound on the flagship, twice as many gained nothing (docs/oracles.md).
LATE_MS = np.array([0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1e9])
ARC = np.dtype(
    [("cost", "f8"), ("sending_ms", "f8"), ("before", "u1"), ("after", "u1"), ("late", "u1"), ("least", "u1"),
     ("most", "u1"), ("missed", "u1"), ("placement", "u1"), ("pad", "u1")]
)  # fmt: skip


@compiled
def late_bin(edges: Any, late_ms: float) -> int:
    """The bin of a lateness: 0 is none, bin j is (edges[j - 1], edges[j]]."""
    j = 0
    while j < edges.size - 1 and late_ms > edges[j]:
        j += 1
    return j


@compiled
def price_serve(
    site: Any,
    p: Any,
    a: int,
    e: Any,
    nodes: Any,
    servers: Any,
    floats: Any,
    idle: Any,
    worlds: Any,
    s: Any,
    o: Any,
) -> None:
    """`physics.serve` compiled once instead of into every caller."""
    serve(site, p, a, e, 0, nodes, servers, floats, idle, worlds, s, o)


@compiled
def price_send(
    site: Any, p: Any, e: Any, links: Any, nodes: Any, floats: Any, integers: Any, worlds: Any, size: float,
    word: int, s: Any,
) -> None:  # fmt: skip
    """`sending.find_transfer` and `send`, compiled once."""
    find_transfer(site, p, e, 0, nodes, integers, worlds, size, word, s)
    s.extra_rtts, s.next_state = floats[s.entry], floats[s.entry + 1]
    send(site, p, e, 0, links, nodes, floats, worlds, s)


@compiled
def price_window(
    site: Any, p: Any, a: int, e: Any, nodes: Any, servers: Any, floats: Any, idle: Any, worlds: Any, s: Any, o: Any,
    extremes: Any, window_ms: float,
) -> tuple:  # fmt: skip
    """Least carbon and latency of a sent request that reaches its node up to ``window_ms`` later than ``s`` says."""
    carbon, latency, tick, last = np.inf, np.inf, 0, 0
    if p.shared == 1:
        tick = last = s.tick
        if window_ms > 0.0:
            arrival = s.arrival_ms + nodes[0, p.node].phase_ms
            tick = int((arrival - ROUNDING_MS) * TICKS_PER_MS)
            last = int((arrival + window_ms + ROUNDING_MS) * TICKS_PER_MS)
    if last - tick > MANY_TICKS:
        for end in range(2):
            s.wait_ms, s.batch = extremes[s.level, 0], extremes[s.level, 1 + end]
            price_serve(site, p, a, e, nodes, servers, floats, idle, worlds, s, o)
            carbon, latency = min(carbon, o.carbon_mg), min(latency, o.latency_ms)
        return carbon, latency
    for t in range(tick, last + 1):
        if p.shared == 1:
            s.tick = t
            s.entry = p.bank + 2 * history_entry(p, s.level, t)
            s.wait_ms, s.batch = floats[s.entry], floats[s.entry + 1]
        price_serve(site, p, a, e, nodes, servers, floats, idle, worlds, s, o)
        carbon, latency = min(carbon, o.carbon_mg), min(latency, o.latency_ms)
    return carbon, latency


@compiled
def enumerate_arcs(
    sites: Any, placements: Any, tables: Any, tape: Any, state: Any, sendings: Any, outcomes: Any, extremes: Any,
    edges: Any, start_ms: Any, longest: Any, refund_mg_per_ms: Any, requests: int, reach: Any, possible: Any,
    local_ms: Any, local_mg: Any, first: Any, arcs: Any,
) -> int:  # fmt: skip
    """Fill ``arcs``; returns how many there are, or -1 if there is too little room.

    Args:
        sites, placements, tables, tape, state, sendings: as in `kernel.step_all`, of a batch of one.
        outcomes: `OUTCOME` (1,).
        extremes: least wait, least and largest batch of each placement's node at each level (P, V, 3).
        edges: `LATE_MS`.
        longest: longest lateness that each link can have (N + 1, L), to fill; 0 at first.
        start_ms, local_ms, local_mg, possible: see `relaxation.Relaxation`; ``possible`` true for the bins at first.
        first: where the arcs of request n and node k begin (N, K + 1), to fill.
        refund_mg_per_ms: carbon of a millisecond of radio tail that sending replaces (N,).
        requests: requests to look at.
        reach: congestion states that each node's connection can be in (K, S), true for the initial ones.
        arcs: room for the arcs.
    """
    site, s, o = sites[0], sendings[0], outcomes[0]
    rows, arrivals, payload, noise, _, warmup = tape
    episodes, links, nodes, servers, _, _, worlds, _, _ = state
    floats, integers, idle = tables
    e = episodes[0]
    e.row, e.tail_until_ms, e.previous_ms = -1, ALWAYS_MS, 0.0
    count, states = 0, reach.shape[1]
    for n in range(requests):
        e.n, e.issued_ms = n, arrivals[n, 0]
        move_world(site, e, rows, warmup, 0, worlds)
        following = reach.copy()
        for link in range(possible.shape[1]):
            step = start_ms[n + 1, link] - start_ms[n, link]
            for j in range(edges.size):
                if possible[n, link, j]:
                    low, high = 0.0 if j == 0 else edges[j - 1], min(edges[j], longest[n, link])
                    for after in range(late_bin(edges, low - step), late_bin(edges, high - step) + 1):
                        possible[n + 1, link, after] = True
            longest[n + 1, link] = max(longest[n, link] - step, 0.0)
        for k in range(nodes.shape[1]):
            first[n, k] = count
            for a in range(placements.shape[0]):
                p = placements[a]
                if p.node != k:
                    continue
                size, word = payload[n, 0], noise[n, a, 0]
                if p.remote == 0:
                    price_send(site, p, e, links, nodes, floats, integers, worlds, size, word, s)
                    for hot in range(2):
                        e.throttled = float(hot)
                        price_serve(site, p, a, e, nodes, servers, floats, idle, worlds, s, o)
                        local_ms[n, a, hot] = o.latency_ms
                    e.throttled = 0.0
                    local_mg[n, a] = o.carbon_mg
                    continue
                start, step = start_ms[n, p.link], start_ms[n + 1, p.link] - start_ms[n, p.link]
                for before in range(2 * states):
                    # A connection that may have been silent for long enough may also start afresh.
                    fresh, state = before >= states, before % states
                    if not reach[k, state] or (fresh and e.issued_ms <= p.idle_reset_ms):
                        continue
                    nodes[0, k].connection = p.initial_state if fresh else state
                    nodes[0, k].position_ms = e.issued_ms
                    for j in range(edges.size):
                        if not possible[n, p.link, j]:
                            continue
                        low, high = 0.0 if j == 0 else edges[j - 1], min(edges[j], longest[n, p.link])
                        links[0, p.link].free_ms = NEVER_MS if j == 0 else start + low
                        price_send(site, p, e, links, nodes, floats, integers, worlds, size, word, s)
                        sending, after = s.upload_ms + s.recovery_ms, s.connection
                        carbon, latency = price_window(
                            site, p, a, e, nodes, servers, floats, idle, worlds, s, o, extremes[a], high - low
                        )
                        if count == arcs.size:
                            return -1
                        arc = arcs[count]
                        count += 1
                        arc.before, arc.after, arc.late, arc.placement = state, after, j, a
                        arc.least = late_bin(edges, low + sending - step)
                        arc.most = late_bin(edges, high + sending - step)
                        arc.missed = 1 if latency > site.slo_ms + ROUNDING_MS else 0
                        arc.cost = carbon - refund_mg_per_ms[n] * min(step, high + sending)
                        arc.sending_ms = sending
                        following[k, after] = True
                        longest[n + 1, p.link] = max(longest[n + 1, p.link], high + sending - step)
                        for to in range(arc.least, arc.most + 1):
                            possible[n + 1, p.link, to] = True
        first[n, nodes.shape[1]] = count
        reach[:] = following
        e.previous_ms = e.issued_ms
    return count
