"""The features of the request's clock, from what a device knows of itself.

Plain Python on purpose: the simulator compiles it into its encoder, the device's observer calls it as it is, without
loading numba. So both show a policy the very same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .units import S_PER_MS


def request_features(
    site: Any, placements: Any, e: Any, b: int, links: Any, nodes: Any, worlds: Any, payload_kb: float, vector: Any,
    f: int,
) -> None:  # fmt: skip
    """Write the features of the waiting request, unscaled, from number ``f`` on.

    Args:
        site, placements: the fields of the records `SITE` and `PLACEMENT` (P,).
        e, b, links, nodes: the episode's record and number, and the state of all: `EPISODE`, `LINK`, `NODE`.
        worlds: what is believed at this moment, by row of `rows.RowLayout` (B, R).
        payload_kb: size of the waiting request.
        vector: takes the values.
        f: number of the first such feature.
    """
    now = e.issued_ms
    # Whether something is still under way is known; how long it will take is only believed.
    device_backlog = max(e.believed_device_ms - now, 0.0) if e.device_free_ms > now else 0.0
    first_row, first_rate = site.row_believed, site.row_believed_rate
    sent, upload = -1, 0.0  # link of the placement before, and what its upload takes: mostly the same
    for a in range(site.placements):
        p = placements[a]
        believed = worlds[b, first_row + a]
        if p.remote == 1:
            link = links[b, p.link]
            backlog = max(link.believed_ms - now, 0.0) if link.free_ms > now else 0.0
            if p.link != sent:
                # Single precision, as both factors are on a tape.
                sent, upload = p.link, float(np.float32(payload_kb * worlds[b, first_rate + p.link]))
            believed += upload + backlog
        else:
            if e.throttled > 0.0:
                believed *= site.slowdown
            believed += device_backlog
        vector[f] = believed
        f += 1
    vector[f] = payload_kb
    vector[f + 1] = now - e.previous_ms
    f += 2
    for i in range(site.links):
        link = links[b, i]
        vector[f] = max(link.believed_ms - now, 0.0) if link.free_ms > now else 0.0
        f += 1
    vector[f] = device_backlog
    f += 1
    others = site.nodes - 1
    for k in range(1, site.nodes):
        node = nodes[b, k]
        done = node.done_ms
        # The age of an unanswered request is what is known of its fate.
        vector[f] = now - (done - node.pending_ms) if done > now else 0.0
        vector[f + others] = node.seen_ms
        vector[f + others + others] = (now - node.answered_ms) * S_PER_MS
        f += 1
    f += others + others
    vector[f] = e.heat
    vector[f + 1] = e.throttled
    vector[f + 2] = min(max(e.tail_until_ms - now, 0.0), site.tail_ms) * S_PER_MS
    vector[f + 3] = e.spent_misses / site.miss_budget
    vector[f + 4] = e.recent_miss
    vector[f + 5] = e.n / site.requests
