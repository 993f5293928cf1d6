"""Time passing to the next request: heat, and what the device learns meanwhile.

Plain Python on purpose: the simulator compiles it, the device's observer calls it as it is, without loading numba.
"""

from __future__ import annotations

from typing import Any

RECENT_WEIGHT = 0.05  # smoothing of the recent miss rate: about the last 20 answered requests


def advance(site: Any, e: Any, nodes: Any, known_at: Any, miss: Any, next_issue_ms: float) -> None:
    """Let time pass to the next request: heat, throttling, and what the device learns meanwhile.

    Args:
        site: the fields of the record `SITE`.
        e, nodes: the episode's record, and the state of its nodes: `EPISODE`, `NODE`.
        known_at: when it is known whether a request missed, by number of the request (N + 1,).
        miss: whether it did, likewise.
        next_issue_ms: when the next request is issued.
    """
    issued = e.issued_ms
    gap = next_issue_ms - issued
    if site.throttling > 0.0:
        busy = e.device_free_ms - issued
        busy = 0.0 if busy <= 0.0 else busy if busy < gap else gap
        # First-order low-pass of utilisation, implicit Euler: h' = h + (busy - h x gap) / (tau + gap).
        e.heat = heat = e.heat + (busy - e.heat * gap) / (gap + site.time_constant_ms)
        felt = heat + e.ambient
        if felt > site.hot:
            e.throttled = 1.0
        elif felt < site.cool:
            e.throttled = 0.0
    e.previous_ms, e.issued_ms = issued, next_issue_ms
    n, known = e.n + 1, e.next_known
    while known < n and known_at[known] <= next_issue_ms:
        missed = miss[known]
        e.spent_misses += missed
        e.recent_miss += RECENT_WEIGHT * (missed - e.recent_miss)
        known += 1
    e.n, e.next_known = n, known
    for k in range(1, site.nodes):
        node = nodes[k]
        if node.done_ms <= next_issue_ms:
            node.seen_ms, node.answered_ms = node.pending_ms, node.done_ms
