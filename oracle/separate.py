"""The first, plain bound: every request on its own, at the best arc that any state could give it.

It is the budget problem over the least costs of each request. The prices of `dual` do better on a whole episode; on a
short one, or after few steps, this may be the larger of the two, and it never falls below zero carbon.
"""

from __future__ import annotations

import numpy as np

from .budget import solve_budget
from .relaxation import Relaxation


def separate_bound(relaxed: Relaxation, quantile: float) -> float:
    """Carbon of the episode below that of every plan that keeps the SLO, mg; infinite where none can."""
    least = np.full((relaxed.requests, 2), np.inf)  # at all, and within the SLO
    for a in relaxed.local:
        least[:, 0] = np.minimum(least[:, 0], relaxed.local_mg[:, a])
        meets = relaxed.local_ms[:, a] <= relaxed.slo_ms
        least[meets, 1] = np.minimum(least[meets, 1], relaxed.local_mg[meets, a])
    for node in relaxed.nodes:
        request = np.repeat(np.arange(relaxed.requests), np.diff(node.first))
        np.minimum.at(least[:, 0], request, node.arcs["cost"])
        meets = node.arcs["missed"] == 0
        np.minimum.at(least[:, 1], request[meets], node.arcs["cost"][meets])
    reachable = np.isfinite(least)
    late_ms = np.broadcast_to([2 * relaxed.slo_ms, 0.0], least.shape)
    solution = solve_budget(np.where(reachable, least, 0.0), late_ms, relaxed.slo_ms, quantile, reachable)
    return solution.carbon_mg if solution.feasible else np.inf
