"""The features of the request's clock, from what a device knows of itself.

Plain Python on purpose: the simulator compiles it into its encoder, the device's observer calls it as it is, without
loading numba. So both show a policy the very same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .units import S_PER_MS


def request_features(
    site: Any, placements: Any, e: Any, links: Any, nodes: Any, believed: Any, payload_kb: float, vector: Any, f: int
) -> None:  # fmt: skip
    """Write the features of the waiting request, unscaled, from number ``f`` on.

    Args:
        site, placements: the fields of the records `SITE` and `PLACEMENT` (P,).
        e, links, nodes: the episode's record, and the state of its links and nodes: `EPISODE`, `LINK`, `NODE`.
        believed: what is believed at this moment, by row of `rows.RowLayout` (R,).
        payload_kb: size of the waiting request.
        vector: takes the values.
        f: number of the first such feature.
    """
    now = e.issued_ms
    # Whether something is still under way is known; how long it will take is only believed.
    free = e.believed_device_ms
    device_backlog = free - now if free > now and e.device_free_ms > now else 0.0
    first_row, first_rate = site.row_believed, site.row_believed_rate
    # Interpreted, every look-up counts: placements over the same link mostly follow each other, so it is asked once.
    sent, sending = -1, 0.0  # link of the placement before, and what sending over it takes
    for a in range(site.placements):
        p = placements[a]
        latency = believed[first_row + a]
        if p.split:
            # The device and the link finish what they have side by side; then come its part, and what crosses the cut.
            head = p.head_ms * e.service_ratio
            if e.throttled > 0.0:
                head *= site.slowdown
            link = links[p.link]
            free = link.believed_ms
            link_backlog = free - now if free > now and link.free_ms > now else 0.0
            begin = device_backlog + head
            latency += begin if begin > link_backlog else link_backlog
            latency += float(np.float32(p.activation_kb * believed[first_rate + p.link]))
        elif p.remote:
            if p.link != sent:
                sent = p.link
                link = links[sent]
                free = link.believed_ms
                # Single precision, as both factors are on a tape.
                sending = float(np.float32(payload_kb * believed[first_rate + sent]))
                if free > now and link.free_ms > now:
                    sending += free - now
            latency += sending
        else:
            latency *= e.service_ratio
            if e.throttled > 0.0:
                latency *= site.slowdown
            latency += device_backlog
        vector[f + a] = latency
    f += site.placements
    vector[f] = payload_kb
    vector[f + 1] = now - e.previous_ms
    f += 2
    for i in range(site.links):
        link = links[i]
        free = link.believed_ms
        vector[f + i] = free - now if free > now and link.free_ms > now else 0.0
    f += site.links
    vector[f] = device_backlog
    others = site.nodes - 1
    answers, ages = f + others, f + others + others
    for k in range(1, site.nodes):
        node = nodes[k]
        done = node.done_ms
        # The age of an unanswered request is what is known of its fate.
        vector[f + k] = now - (done - node.pending_ms) if done > now else 0.0
        vector[answers + k] = node.seen_ms
        vector[ages + k] = (now - node.answered_ms) * S_PER_MS
    f = ages + site.nodes
    for k in range(1, site.nodes):
        vector[f + k - 1] = nodes[k].residual_ms
    f += others
    for i in range(site.links):
        link = links[i]
        vector[f] = link.residual_ms
        vector[f + 1] = link.deviation_ms
        vector[f + 2] = link.sent_mbps
        vector[f + 3] = (now - link.sent_at_ms) * S_PER_MS
        f += 4
    tail = e.tail_until_ms - now
    vector[f] = e.heat
    vector[f + 1] = e.throttled
    vector[f + 2] = (0.0 if tail <= 0.0 else tail if tail < site.tail_ms else site.tail_ms) * S_PER_MS
    vector[f + 3] = e.spent_misses / site.miss_budget
    vector[f + 4] = e.recent_miss
    vector[f + 5] = e.n / site.requests
