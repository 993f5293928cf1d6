"""From the state to the observation vector of one episode, in the order of the observation table."""

from __future__ import annotations

from typing import Any

from .compiling import inlined
from .request_features import request_features

_request_features = inlined(request_features)


@inlined
def observe(
    site: Any, placements: Any, e: Any, b: int, links: Any, nodes: Any, worlds: Any, expected: Any, payload_kb: float,
    inverse: Any, low: Any, high: Any, out: Any,
) -> None:  # fmt: skip
    """Encode the waiting request: features of the telemetry's clock from the tape, the others from the state.

    Args:
        site, placements: records `SITE` and `PLACEMENT` (P,).
        e, b, links, nodes: the episode's record and number, and the state of all.
        worlds: the tape's rows at this moment (B, R).
        expected: takes the believed latency of each placement, as shown (B, P).
        payload_kb: size of the waiting request.
        inverse, low, high: one over the scale, and the encoded bounds, of each feature (F,).
        out: the vectors (B, F) float32.
    """
    vector, shown = out[b], worlds[b, site.row_features :]
    for i in range(site.features):
        vector[i] = shown[i]
    _request_features(site, placements, e, links[b], nodes[b], worlds[b], payload_kb, vector, site.features)
    for a in range(site.placements):
        expected[b, a] = vector[site.features + a]
    # Scaling and clipping all at the end lets the compiler take eight features at once.
    raw, factor, lowest, highest = (
        vector[site.features :],
        inverse[site.features :],
        low[site.features :],
        high[site.features :],
    )
    for i in range(raw.size):
        raw[i] = min(max(raw[i] * factor[i], lowest[i]), highest[i])
