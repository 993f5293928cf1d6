"""Time passing to the next request: heat, and what the device learns meanwhile.

Plain Python on purpose: the simulator compiles it, the device's observer calls it as it is, without loading numba.
"""

from __future__ import annotations

from typing import Any

from .records import COMPUTING_SLOTS

RECENT_WEIGHT = 0.05  # smoothing of the recent miss rate: about the last 20 answered requests
RESIDUAL_WEIGHT = 0.1  # smoothing of a link's residuals: about its last 10 answers
RATIO_WEIGHT = 0.1  # smoothing of measured over calibrated service times: about the last 10 images
LAST_SLOT = COMPUTING_SLOTS - 1
# A residual is cut to this share of the SLO below: belief is rarely far too high; and to the SLO above, or one stall of
# seconds would drown what follows.
LEAST_RESIDUAL = -1.0 / 3.0


def advance(
    site: Any, e: Any, links: Any, nodes: Any, device: Any, known_at: Any, miss: Any, next_issue_ms: float
) -> None:  # fmt: skip
    """Let time pass to the next request: heat, throttling, and what the device learns meanwhile.

    Args:
        site: the fields of the record `SITE`.
        e, links, nodes: the episode's record, and the state of its links and nodes: `EPISODE`, `LINK`, `NODE`.
        device: the newest requests on the device, a ring of `COMPUTING`.
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
    ended, begun = e.ended, e.begun
    while ended < begun and device[ended & LAST_SLOT].done_ms <= next_issue_ms:
        slot = device[ended & LAST_SLOT]
        ended += 1
        if slot.service_ms > 0.0:
            e.service_ratio += RATIO_WEIGHT * (slot.service_ms / slot.calibrated_ms - e.service_ratio)
        if ended < begun:  # the next one began just then, and so did all behind it
            error = slot.done_ms - slot.believed_ms
            e.believed_device_ms += error
            for later in range(ended, begun):
                device[later & LAST_SLOT].believed_ms += error
    e.ended = ended
    for k in range(1, site.nodes):
        node = nodes[k]
        done = node.done_ms
        if node.answered_ms < done <= next_issue_ms:  # answered since the last request
            latency = node.pending_ms
            node.seen_ms, node.answered_ms = latency, done
            residual, slo = latency - node.expected_ms, site.slo_ms
            residual = (
                slo
                if residual > slo
                else residual
                if residual > LEAST_RESIDUAL * slo
                else LEAST_RESIDUAL * slo
            )
            node.residual_ms = residual
            link = links[node.link]
            error = residual - link.residual_ms
            link.residual_ms += RESIDUAL_WEIGHT * error
            link.deviation_ms += RESIDUAL_WEIGHT * ((error if error > 0.0 else -error) - link.deviation_ms)
            if node.pending_mbps > 0.0 and done - latency > link.sent_at_ms:
                link.sent_mbps, link.sent_at_ms = node.pending_mbps, done - latency
