"""The dynamic state of a batch of episodes: everything that past placements have left behind."""

from __future__ import annotations

from typing import Any

from .ops import BatchOps, ScalarOps
from .site import Constants, Site

LONG_AGO_MS = -1e9
NEVER_MS = 1e18


class State:
    """Queues, link occupancy, connections, heat, radio and what the device has learned from answers.

    Arrays are (B,) or (K, B) float64; with a batch of one, floats and lists.
    """

    __slots__ = (
        "answered_ms", "connection", "device_free_ms", "done_ms", "heat", "issued_ms", "known_at_ms", "last_issue_ms",
        "last_used_ms", "link_free_ms", "miss", "next_known", "pending_ms", "position_ms", "previous_ms", "recent_miss",
        "remaining_ms", "seen_ms", "spent_misses", "tail_until_ms", "throttled",
    )  # fmt: skip

    def __init__(self, site: Site, constants: Constants, ops: BatchOps | ScalarOps) -> None:
        """Start with empty queues, a cool device and fresh connections."""
        nodes, links = len(site.node_names), len(site.link_names)
        requests = site.scenario.episode.requests
        zero = ops.constant
        self.link_free_ms = ops.filled(links + 1, 0.0)
        self.position_ms = ops.filled(nodes, 0.0)  # where each node's own work was last counted
        self.remaining_ms = ops.filled(constants.slots, 0.0)  # own work left there then, by server
        # One connection per placement's node; congestion state after its last upload.
        self.connection = ops.integers(nodes, [0] + [_initial_state(site, n) for n in site.node_names[1:]])
        self.last_used_ms = ops.filled(nodes, 0.0)
        self.device_free_ms = zero(0.0)
        self.heat, self.throttled = zero(0.0), zero(0.0)
        self.tail_until_ms = zero(LONG_AGO_MS)
        self.previous_ms, self.issued_ms = zero(0.0), zero(0.0)
        # What the device knows from answers, by node.
        self.last_issue_ms = ops.filled(nodes, LONG_AGO_MS)
        self.done_ms = ops.filled(nodes, LONG_AGO_MS)
        self.answered_ms = ops.filled(nodes, LONG_AGO_MS)
        self.pending_ms, self.seen_ms = ops.filled(nodes, 0.0), ops.filled(nodes, 0.0)
        # Misses, by request, and when the device knows about them.
        self.known_at_ms = ops.filled(requests + 1, NEVER_MS)
        self.miss = ops.filled(requests + 1, 0.0)
        self.next_known = ops.integers(None, 0)
        self.spent_misses, self.recent_miss = zero(0.0), zero(0.0)

    def copy_columns(self, source: State, columns: Any) -> None:
        """Overwrite some episodes (columns) with those of another state of the same shape."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(source, name)
            mine[..., columns] = theirs


def _initial_state(site: Site, node: str) -> int:
    link = site.scenario.nodes[node].link
    transfer = site.transfers[site.link_names.index(link)]
    return 0 if transfer is None else int(transfer.initial_state)
