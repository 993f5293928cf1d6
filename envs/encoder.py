"""From the state to the observation vector of one episode, in the order of the observation table."""

from __future__ import annotations

from typing import Any

from .compiling import inlined
from .physics import PER_S


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
    for i in range(f):
        out[b, i] = worlds[b, site.row_features + i]
    # Whether something is still under way is known; how long it will take is only believed.
    device_backlog = max(e.believed_device_ms - now, 0.0) if e.device_free_ms > now else 0.0
    for a in range(site.placements):
        p = placements[a]
        believed = worlds[b, site.row_believed + a]
        if p.remote == 1:
            believed += payload_kb * worlds[b, site.row_believed_rate + p.link] + link_backlog(links[b, p.link], now)
        else:
            if e.throttled > 0.0:
                believed *= site.slowdown
            believed += device_backlog
        f = put(out, b, f, believed, inverse, low, high)
    f = put(out, b, f, payload_kb, inverse, low, high)
    f = put(out, b, f, now - e.previous_ms, inverse, low, high)
    for i in range(site.links):
        f = put(out, b, f, link_backlog(links[b, i], now), inverse, low, high)
    f = put(out, b, f, device_backlog, inverse, low, high)
    for k in range(1, site.nodes):  # the age of an unanswered request is what is known of its fate
        unanswered = nodes[b, k].done_ms > now
        f = put(out, b, f, now - (nodes[b, k].done_ms - nodes[b, k].pending_ms) if unanswered else 0.0, inverse, low, high)
    for k in range(1, site.nodes):
        f = put(out, b, f, nodes[b, k].seen_ms, inverse, low, high)
    for k in range(1, site.nodes):
        f = put(out, b, f, (now - nodes[b, k].answered_ms) * PER_S, inverse, low, high)
    f = put(out, b, f, e.heat, inverse, low, high)
    f = put(out, b, f, e.throttled, inverse, low, high)
    f = put(out, b, f, min(max(e.tail_until_ms - now, 0.0), site.tail_ms) * PER_S, inverse, low, high)
    f = put(out, b, f, e.spent_misses / site.miss_budget, inverse, low, high)
    f = put(out, b, f, e.recent_miss, inverse, low, high)
    put(out, b, f, e.n / site.requests, inverse, low, high)


@inlined
def link_backlog(link: Any, now: float) -> float:
    """Believed time until a link has sent our bytes, ms; zero once they are sent."""
    return max(link.believed_ms - now, 0.0) if link.free_ms > now else 0.0


@inlined
def put(out: Any, b: int, f: int, value: float, inverse: Any, low: Any, high: Any) -> int:
    """Write feature ``f``, scaled and clipped, and return the next one's number."""
    out[b, f] = min(max(value * inverse[f], low[f]), high[f])
    return f + 1
