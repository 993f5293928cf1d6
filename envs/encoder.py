"""From the state to the observation vector of one episode, in the order of the observation table."""

from __future__ import annotations

from typing import Any

from .compiling import compiled
from .physics import PER_S


@compiled
def observe(
    site: Any, placements: Any, e: Any, links: Any, nodes: Any, world: Any, payload_kb: float, inverse: Any, low: Any,
    high: Any, out: Any,
) -> None:  # fmt: skip
    """Encode the waiting request: features of the telemetry's clock from the tape, the others from the state.

    Args:
        site, placements: records `SITE` and `PLACEMENT` (P,).
        e, links, nodes: the episode's state.
        world: the tape's rows at this moment (R,).
        payload_kb: size of the waiting request.
        inverse, low, high: one over the scale, and the encoded bounds, of each feature (F,).
        out: the vector (F,) float32.
    """
    now, f = e.issued_ms, site.features
    for i in range(f):
        out[i] = world[site.row_features + i]
    # Whether something is still under way is known; how long it will take is only believed.
    device_backlog = max(e.believed_device_ms - now, 0.0) if e.device_free_ms > now else 0.0
    for a in range(site.placements):
        p = placements[a]
        believed = world[site.row_believed + a]
        if p.remote == 1:
            believed += payload_kb * world[site.row_believed_rate + p.link] + link_backlog(links[p.link], now)
        else:
            if e.throttled > 0.0:
                believed *= site.slowdown
            believed += device_backlog
        f = put(out, f, believed, inverse, low, high)
    f = put(out, f, payload_kb, inverse, low, high)
    f = put(out, f, now - e.previous_ms, inverse, low, high)
    for i in range(site.links):
        f = put(out, f, link_backlog(links[i], now), inverse, low, high)
    f = put(out, f, device_backlog, inverse, low, high)
    for k in range(1, site.nodes):  # the age of an unanswered request is what is known of its fate
        unanswered = nodes[k].done_ms > now
        f = put(out, f, now - (nodes[k].done_ms - nodes[k].pending_ms) if unanswered else 0.0, inverse, low, high)
    for k in range(1, site.nodes):
        f = put(out, f, nodes[k].seen_ms, inverse, low, high)
    for k in range(1, site.nodes):
        f = put(out, f, (now - nodes[k].answered_ms) * PER_S, inverse, low, high)
    f = put(out, f, e.heat, inverse, low, high)
    f = put(out, f, e.throttled, inverse, low, high)
    f = put(out, f, min(max(e.tail_until_ms - now, 0.0), site.tail_ms) * PER_S, inverse, low, high)
    f = put(out, f, e.spent_misses / site.miss_budget, inverse, low, high)
    f = put(out, f, e.recent_miss, inverse, low, high)
    put(out, f, e.n / site.requests, inverse, low, high)


@compiled
def link_backlog(link: Any, now: float) -> float:
    """Believed time until a link has sent our bytes, ms; zero once they are sent."""
    return max(link.believed_ms - now, 0.0) if link.free_ms > now else 0.0


@compiled
def put(out: Any, f: int, value: float, inverse: Any, low: Any, high: Any) -> int:
    """Write feature ``f``, scaled and clipped, and return the next one's number."""
    out[f] = min(max(value * inverse[f], low[f]), high[f])
    return f + 1
