"""The breakers of a site: one for each node, the device included, and one for the head of each split model.

A head that fails says nothing about the node of its tail, nor about the device's own model.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...envs.schema import Scenario
from ..interfaces import ErrorKind
from .breaker import Breaker, BreakerSettings


class Breakers:
    """Asked before a request, told of its end; one thread.

    Attributes:
        resting: whether any breaker is not closed; while none is, nothing need be asked.
    """

    def __init__(self, scenario: Scenario, node_of: Sequence[int], settings: BreakerSettings | None) -> None:
        """All closed; ``node_of`` is the number of each placement's node, 0 the device."""
        self._nodes = ["local", *scenario.nodes]
        self._node_of = node_of
        self._of_node = [Breaker(settings) for _ in self._nodes]
        self._of_head = {
            a: Breaker(settings) for a, p in enumerate(scenario.placements) if p.split is not None
        }
        self._heads = {a: f"head of {scenario.placements[a].name}" for a in self._of_head}
        self._all = [*self._of_node, *self._of_head.values()]
        self.resting = False

    def allows(self, placement: int, now_ms: float) -> bool:
        """Whether a request may go to a placement."""
        head = self._of_head.get(placement)
        return self._of_node[self._node_of[placement]].allows(now_ms) and (
            head is None or head.allows(now_ms)
        )

    def began(self, placement: int, now_ms: float) -> None:
        """A request goes there."""
        self._of_node[self._node_of[placement]].began(now_ms)
        if placement in self._of_head:
            self._of_head[placement].began(now_ms)

    def failing(self, placement: int) -> bool:
        """Whether what it needs has failed last."""
        head = self._of_head.get(placement)
        return self._of_node[self._node_of[placement]].failures > 0 or (
            head is not None and head.failures > 0
        )

    def ended(self, placement: int, error: ErrorKind | None, now_ms: float, at_head: bool) -> None:
        """A request has ended; ``at_head``: before anything was sent to the node."""
        node, head = self._of_node[self._node_of[placement]], self._of_head.get(placement)
        if at_head:
            node.unused()
            if head is not None and error != "cancelled":
                head.failed(now_ms)
        else:
            if head is not None:
                head.succeeded()
            if error is None:
                node.succeeded()
            elif error != "cancelled":
                node.failed(now_ms)
        self.resting = not all(b.closed for b in self._all)

    def states(self, now_ms: float) -> dict[str, dict[str, object]]:
        """By name of the node, and "head of PLACEMENT"."""
        names = [*self._nodes, *self._heads.values()]
        return {
            name: {"state": b.state(now_ms), "failures": b.failures, "opened": b.opened}
            for name, b in zip(names, self._all, strict=True)
        }
