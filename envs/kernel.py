"""The loops over a batch of episodes: read the tape, run the physics, write observations and outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import counting_nothing, inlined
from .encoder import observe
from .physics import advance, commit, serve
from .sending import find_transfer, send


@inlined
def move_world(site: Any, e: Any, rows: Any, warmup: int, b: int, worlds: Any) -> None:
    """Bring an episode's world (row b of (B, R)) up to its waiting request.

    Past the tape's end the last row stays; the episode is over then.
    """
    row = e.n if site.request_clock == 1 else warmup + int(e.issued_ms * 0.001)
    if row != e.row:
        e.row = row
        row = min(row, rows.shape[1] - 1)
        for r in range(rows.shape[0]):
            worlds[b, r] = rows[r, row, b]


@counting_nothing
def observe_all(sites: Any, placements: Any, encoding: Any, tape: Any, state: Any, out: Any) -> None:
    """Encode the waiting request of every episode into ``out`` (B, F)."""
    site = sites[0]
    inverse, low, high = encoding
    rows, _, payload, _, _, warmup = tape
    episodes, links, nodes, _, _, _, worlds, expected, _ = state
    for b in range(episodes.shape[0]):
        e = episodes[b]
        move_world(site, e, rows, warmup, b, worlds)
        observe(
            site, placements, e, b, links, nodes, worlds, expected, payload[e.n, b], inverse, low, high, out
        )


@counting_nothing
def preview_all(
    sites: Any, placements: Any, tables: Any, tape: Any, state: Any, sendings: Any, a: int, outcomes: Any
) -> None:
    """What one placement would give every episode's waiting request; the state is not touched."""
    site, p, s = sites[0], placements[a], sendings[0]
    _, _, payload, noise, _, _ = tape
    episodes, links, nodes, servers, _, _, worlds, _, _ = state
    floats, integers, idle = tables
    for b in range(episodes.shape[0]):
        e = episodes[b]
        find_transfer(site, p, e, b, nodes, integers, worlds, payload[e.n, b], noise[e.n, a, b], s)
        s.extra_rtts, s.next_state = floats[s.entry], floats[s.entry + 1]
        send(site, p, e, b, links, nodes, floats, worlds, s)
        s.wait_ms, s.batch = floats[s.entry], floats[s.entry + 1]
        serve(site, p, a, e, b, nodes, servers, floats, idle, worlds, s, outcomes[b])


@inlined
def sort_by_kind(placements: Any, actions: Any, first: int, stop: int, sendings: Any) -> None:
    """Number the episodes of a block so that those who place on the device come before those who send.

    What comes next branches on the kind of placement, and a processor that cannot foresee its branches waits. So this
    must not branch either.
    """
    local, sent = 0, 0
    for b in range(first, stop):
        sent += 1 - np.int64(placements[actions[b]].remote)
    for b in range(first, stop):
        remote = np.int64(placements[actions[b]].remote)
        sendings[local + (sent - local) * remote].episode = b
        local += 1 - remote
        sent += remote


@counting_nothing
def step_block(
    sites: Any, placements: Any, tables: Any, encoding: Any, tape: Any, state: Any, sendings: Any,
    actions: Any, outcomes: Any, observations: Any, truncated: Any, first: int, stop: int,
) -> None:  # fmt: skip
    """`step_all` for the episodes from ``first`` to before ``stop``, no more than there are ``sendings``.

    The tables are larger than the caches, and waiting for them took a third of the time. Short loops over
    some episodes that do little else than read them let the processor wait for many entries at once.
    Episodes are numbered unsigned, so that no index is tested for counting from the end.
    """
    site = sites[0]
    inverse, low, high = encoding
    rows, arrivals, payload, noise, valid_rows, warmup = tape
    episodes, links, nodes, servers, known_at, miss, worlds, expected, computing = state
    floats, integers, idle = tables
    last = payload.shape[0] - 1
    count = stop - first
    sort_by_kind(placements, actions, first, stop, sendings)
    for i in range(count):
        s = sendings[i]
        b = np.uint64(s.episode)
        e, a = episodes[b], actions[b]
        p, size, word = placements[a], payload[e.n, b], noise[e.n, a, b]
        find_transfer(site, p, e, b, nodes, integers, worlds, size, word, s)
    for i in range(count):
        s = sendings[i]
        s.extra_rtts, s.next_state = floats[s.entry], floats[s.entry + 1]
    for i in range(count):
        s = sendings[i]
        b = np.uint64(s.episode)
        send(site, placements[actions[b]], episodes[b], b, links, nodes, floats, worlds, s)
    for i in range(count):
        s = sendings[i]
        s.wait_ms, s.batch = floats[s.entry], floats[s.entry + 1]
    for i in range(count):
        s = sendings[i]
        b = np.uint64(s.episode)
        e, a, o = episodes[b], actions[b], outcomes[b]
        p = placements[a]
        effect = serve(site, p, a, e, b, nodes, servers, floats, idle, worlds, s, o)
        commit(
            site,
            p,
            e,
            b,
            links,
            nodes,
            servers,
            computing[b],
            known_at,
            miss,
            worlds,
            expected[b, a],
            s,
            o,
            effect,
        )
        following = e.issued_ms + o.latency_ms if site.closed_loop == 1 else arrivals[min(e.n + 1, last), b]
        advance(site, e, links[b], nodes[b], computing[b], known_at[:, b], miss[:, b], following)
        move_world(site, e, rows, warmup, b, worlds)
        size = payload[e.n, b]
        observe(
            site, placements, e, b, links, nodes, worlds, expected, size, inverse, low, high, observations
        )
        e.over = 1 if e.n >= last or e.row >= valid_rows[b] else 0
        truncated[b] = e.over == 1


@counting_nothing
def step_all(
    sites: Any, placements: Any, tables: Any, encoding: Any, tape: Any, state: Any, sendings: Any,
    actions: Any, outcomes: Any, observations: Any, truncated: Any,
) -> None:  # fmt: skip
    """Place every episode's waiting request, move to the next one and encode it.

    Args:
        sites, placements, tables: `SITE` (1,), `PLACEMENT` (P,), `constants.Tables`.
        encoding: (inverse, low, high) of the features.
        tape: (rows, arrivals_ms, payload_kb, noise, valid_rows, warmup).
        state: the arrays of `state.State`.
        sendings: room for as many `SENDING` as episodes are to be worked on together.
        actions: placements (B,).
        outcomes, observations, truncated: arrays to fill: `OUTCOME` (B,), (B, F), (B,).
    """
    count = truncated.shape[0]
    for first in range(0, count, sendings.shape[0]):
        step_block(
            sites, placements, tables, encoding, tape, state, sendings, actions, outcomes, observations, truncated,
            first, min(first + sendings.shape[0], count),
        )  # fmt: skip
