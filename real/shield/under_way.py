"""Requests of which no end was heard yet, and what their being late says about those that come."""

from __future__ import annotations

from ...agents.shield_sight import ShieldSight

LOST_MS = (
    30_000.0  # of a request that is older nothing will be heard any more; assumed, beyond every time limit
)


class UnderWay:
    """Open requests by node, the oldest first.

    Attributes:
        late_ms: by how much the oldest request on each link, and last on the device, was beyond its upper latency when
            `overdue` was asked (L + 1,).
    """

    def __init__(self, sight: ShieldSight) -> None:
        """Nothing is under way."""
        nodes, links = 1 + len(sight.link_of_node), len(sight.probe_age)
        self._open: list[dict[int, tuple[float, float]]] = [{} for _ in range(nodes)]
        # By link; the device's is -1, the last.
        self._by_link = list(zip([-1, *sight.link_of_node], self._open, strict=True))
        self._none = [0.0] * (links + 1)
        self._count = 0
        self.late_ms = self._none

    def began(self, node: int, number: int, now_ms: float, upper_ms: float) -> None:
        """A request was given to a node."""
        self._open[node][number] = (now_ms, upper_ms)
        self._count += 1

    def ended(self, node: int, number: int) -> float | None:
        """It was heard of; when it began, None if it was lost or heard of before."""
        found = self._open[node].pop(number, None)
        if found is None:
            return None
        self._count -= 1
        return found[0]

    def overdue(self, now_ms: float) -> list[float]:
        """Bring `late_ms` up to now and return it."""
        if not self._count:
            self.late_ms = self._none
            return self._none
        late_ms = self.late_ms = self._none.copy()
        for link, requests in self._by_link:
            if requests:
                number, (began_ms, upper_ms) = next(iter(requests.items()))
                if now_ms - began_ms > LOST_MS:
                    del requests[number]
                    self._count -= 1
                else:
                    late_ms[link] = max(late_ms[link], now_ms - began_ms - upper_ms)
        return late_ms
