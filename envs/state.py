"""The dynamic state of a batch of episodes: everything that past placements have left behind."""

from __future__ import annotations

from typing import Any

from .constants import Constants
from .ops import BatchOps, ScalarOps
from .site import Site

LONG_AGO_MS = -1e9
NEVER_MS = 1e18


class State:
    """Queues, link occupancy, connections, heat, radio and what the device has learned from answers.

    Arrays are (B,), or (K, B) by link, node, server or request; with a batch of one, numbers and lists.
    """

    __slots__ = (
        "answered_ms", "believed_device_ms", "believed_link_ms", "connection", "device_free_ms", "done_ms", "heat", "issued_ms", "known_at_ms", "link_free_ms", "miss",
        "next_known", "pending_ms", "position_ms", "previous_ms", "recent_miss", "remaining_ms", "seen_ms", "spent_misses",
        "tail_until_ms", "throttled",
    )  # fmt: skip

    def __init__(self, site: Site, constants: Constants, ops: BatchOps | ScalarOps) -> None:
        """Start with empty queues, a cool device and fresh connections."""
        nodes, links = len(site.node_names), len(site.link_names)
        requests = site.scenario.episode.requests
        self.link_free_ms = ops.filled(max(links, 1), 0.0)  # when each link has sent what it was given
        self.position_ms = ops.filled(nodes, 0.0)  # when each node's own work was last counted
        self.remaining_ms = ops.filled(constants.server_count, 0.0)  # own work left there then, by server
        # One connection per node; its congestion state after the last upload.
        self.connection = ops.integers(nodes, [_initial_state(site, name) for name in site.node_names])
        self.device_free_ms = ops.constant(0.0)
        # When the device believes that the link and itself will be free, from believed rates and service times.
        self.believed_link_ms, self.believed_device_ms = ops.filled(max(links, 1), 0.0), ops.constant(0.0)
        self.heat, self.throttled = ops.constant(0.0), ops.constant(0.0)
        self.tail_until_ms = ops.constant(LONG_AGO_MS)
        self.previous_ms, self.issued_ms = ops.constant(0.0), ops.constant(0.0)
        # What the device knows from answers, by node: the last request's end and latency, and the last seen one.
        self.done_ms, self.pending_ms = ops.filled(nodes, LONG_AGO_MS), ops.filled(nodes, 0.0)
        self.answered_ms, self.seen_ms = ops.filled(nodes, LONG_AGO_MS), ops.filled(nodes, 0.0)
        # Misses by request, and when the device knows about them.
        self.known_at_ms, self.miss = ops.filled(requests + 1, NEVER_MS), ops.filled(requests + 1, 0.0)
        self.next_known = ops.integers(None, 0)
        self.spent_misses, self.recent_miss = ops.constant(0.0), ops.constant(0.0)

    def copy_columns(self, source: State, columns: Any) -> None:
        """Overwrite some episodes (columns) with those of another state of the same site."""
        for name in self.__slots__:
            getattr(self, name)[..., columns] = getattr(source, name)


def _initial_state(site: Site, name: str) -> int:
    node = site.scenario.nodes.get(name)
    transfer = None if node is None else site.transfers[site.link_names.index(node.link)]
    return 0 if transfer is None else int(transfer.initial_state)
