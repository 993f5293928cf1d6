"""From the state to the observation vector of one episode, in the order of the observation table."""

from __future__ import annotations

from typing import Any

from .compiling import inlined
from .sending import PER_S


@inlined
def observe(
    site: Any, placements: Any, e: Any, b: int, links: Any, nodes: Any, worlds: Any, payload_kb: float, inverse: Any,
    low: Any, high: Any, out: Any,
) -> None:  # fmt: skip
    """Encode the waiting request: features of the telemetry's clock from the tape, the others from the state.

    Args:
        site, placements: records `SITE` and `PLACEMENT` (P,).
        e, b, links, nodes: the episode's record and number, and the state of all.
        worlds: the tape's rows at this moment (B, R).
        payload_kb: size of the waiting request.
        inverse, low, high: one over the scale, and the encoded bounds, of each feature (F,).
        out: the vectors (B, F) float32.
    """
    now, f = e.issued_ms, site.features
    vector, shown = out[b], worlds[b, site.row_features :]
    for i in range(f):
        vector[i] = shown[i]
    # Whether something is still under way is known; how long it will take is only believed.
    device_backlog = max(e.believed_device_ms - now, 0.0) if e.device_free_ms > now else 0.0
    for a in range(site.placements):
        p = placements[a]
        believed = worlds[b, site.row_believed + a]
        if p.remote == 1:
            believed += payload_kb * worlds[b, site.row_believed_rate + p.link] + link_backlog(
                links[b, p.link], now
            )
        else:
            if e.throttled > 0.0:
                believed *= site.slowdown
            believed += device_backlog
        f = put(vector, f, believed)
    f = put(vector, f, payload_kb)
    f = put(vector, f, now - e.previous_ms)
    for i in range(site.links):
        f = put(vector, f, link_backlog(links[b, i], now))
    f = put(vector, f, device_backlog)
    for k in range(1, site.nodes):  # the age of an unanswered request is what is known of its fate
        unanswered = nodes[b, k].done_ms > now
        f = put(vector, f, now - (nodes[b, k].done_ms - nodes[b, k].pending_ms) if unanswered else 0.0)
    for k in range(1, site.nodes):
        f = put(vector, f, nodes[b, k].seen_ms)
    for k in range(1, site.nodes):
        f = put(vector, f, (now - nodes[b, k].answered_ms) * PER_S)
    f = put(vector, f, e.heat)
    f = put(vector, f, e.throttled)
    f = put(vector, f, min(max(e.tail_until_ms - now, 0.0), site.tail_ms) * PER_S)
    f = put(vector, f, e.spent_misses / site.miss_budget)
    f = put(vector, f, e.recent_miss)
    f = put(vector, f, e.n / site.requests)
    # Scaling and clipping all at the end lets the compiler take eight features at once.
    raw, factor, lowest, highest = (
        vector[site.features :],
        inverse[site.features :],
        low[site.features :],
        high[site.features :],
    )
    for i in range(raw.size):
        raw[i] = min(max(raw[i] * factor[i], lowest[i]), highest[i])


@inlined
def link_backlog(link: Any, now: float) -> float:
    """Believed time until a link has sent our bytes, ms; zero once they are sent."""
    return max(link.believed_ms - now, 0.0) if link.free_ms > now else 0.0


@inlined
def put(vector: Any, f: int, value: float) -> int:
    """Write feature ``f`` unscaled and return the next one's number."""
    vector[f] = value
    return f + 1
