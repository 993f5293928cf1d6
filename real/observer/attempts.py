"""The device's own requests under way, and what they do to its links, nodes, radio and itself."""

from __future__ import annotations

import math
from typing import Any

from ...envs.beliefs import believe_computing, believe_sending, sent_mbps
from ...envs.records import COMPUTING, COMPUTING_SLOTS, LINK, LONG_AGO_MS, NODE
from ...envs.schema import LOCAL, Scenario
from ...envs.service import mean_ms
from .plain_records import plain_record

# Stands for a believed latency where something that it follows from is unknown: every row of the table cuts it off.
UNKNOWN_MS = 1e9


class Attempt:
    """A request under way at one placement; made by `Observer.placed`."""

    __slots__ = (
        "computing",
        "expected_ms",
        "link",
        "node",
        "number",
        "payload_kb",
        "placed_ms",
        "placement",
        "sending",
    )  # fmt: skip

    def __init__(
        self, placement: int, placed_ms: float, link: int | None, node: int, payload_kb: float, expected_ms: float
    ) -> None:  # fmt: skip
        """It was given away just now; ``expected_ms`` is the latency that was believed in."""
        self.placement, self.placed_ms, self.link, self.node = placement, placed_ms, link, node
        self.payload_kb, self.expected_ms = payload_kb, expected_ms
        self.sending, self.computing = link is not None, False
        self.number = 0  # on the device, among all that were


class Attempts:
    """Keeps the `LINK` and `NODE` records and the device's part of the `EPISODE`, as the simulator's `commit` does.

    The simulator knows when things will end; here an end that has not come yet lies later than any moment.

    Attributes:
        links: the records of the links (L,).
        nodes: those of the nodes, by (0, number); `node_list` has the same by number (K,), which is read faster.
        device: the newest requests on the device, a ring of `COMPUTING`.
        unanswered: the attempt at each node that is followed, the first since the last answer.
        link_of: number of each placement's link (P,); None on the device.
        head_ms, activation_kb: of each placement (P,): what the device computes of a split model (None: it is whole),
            and what it sends then.
    """

    def __init__(self, scenario: Scenario, site: Any, episode: Any) -> None:
        """Nothing is under way."""
        self._site, self._episode = site, episode
        self.links = [plain_record(LINK) for _ in scenario.links]
        self.nodes = {(0, k): plain_record(NODE) for k in range(1 + len(scenario.nodes))}
        self.node_list = list(self.nodes.values())
        for link in self.links:
            link.sent_at_ms = LONG_AGO_MS
        for node in self.node_list:
            node.done_ms = node.answered_ms = LONG_AGO_MS
        episode.tail_until_ms, episode.service_ratio = LONG_AGO_MS, 1.0
        self.device = [plain_record(COMPUTING) for _ in range(COMPUTING_SLOTS)]
        self.unanswered: dict[int, Attempt] = {}
        self._sending = [0] * len(scenario.links)
        self._tail_of: Attempt | None = None  # after whose bytes the radio's tail begins
        self._computing = 0
        names, links = [LOCAL, *scenario.nodes], list(scenario.links)
        self._node_of = [names.index(p.node) for p in scenario.placements]
        self.link_of = [
            None if p.node == LOCAL else links.index(scenario.nodes[p.node].link) for p in scenario.placements
        ]
        self.head_ms = [None if p.split is None else mean_ms(p.split.service) for p in scenario.placements]
        self.activation_kb = [0.0 if p.split is None else p.split.activation_kb for p in scenario.placements]
        for k, number in zip(self._node_of, self.link_of, strict=True):
            self.node_list[k].link = number or 0

    def placed(
        self, now_ms: float, placement: int, payload_kb: float, believed: dict[int, float], expected_ms: float
    ) -> Attempt:
        """A request is given to a placement; ``believed`` are the rows of this second.

        Of a split model the payload is of no account: what crosses the cut is always as large.
        """
        e, number, head_ms = self._episode, self.link_of[placement], self.head_ms[placement]
        if head_ms is not None:
            payload_kb = self.activation_kb[placement]
        attempt = Attempt(placement, now_ms, number, self._node_of[placement], payload_kb, expected_ms)
        if number is None:
            self._compute(attempt, now_ms, believed[self._site.row_believed])
        else:
            if head_ms is not None:
                self._compute(attempt, now_ms, head_ms)
            link = self.links[number]
            believe_sending(link, now_ms, payload_kb, believed[self._site.row_believed_rate + number])
            self._sending[number] += 1
            link.free_ms = math.inf
            if self._site.radio > 0.0:
                e.tail_until_ms, self._tail_of = math.inf, attempt
        self.unanswered.setdefault(attempt.node, attempt)
        return attempt

    def _compute(self, attempt: Attempt, now_ms: float, service_ms: float) -> None:
        """The device is given work that is believed to take so long."""
        e = self._episode
        attempt.number, attempt.computing = e.begun, True
        believe_computing(self._site, e, self.device, now_ms, service_ms)
        self._computing += 1
        e.device_free_ms = math.inf

    def computed(self, attempt: Attempt, now_ms: float, service_ms: float | None) -> bool:
        """The device has done its part, if it had one that was not done yet; whether it had."""
        computed, attempt.computing = attempt.computing, False
        if computed:
            self._computing -= 1
            if not self._computing:
                self._episode.device_free_ms = now_ms
            if attempt.number >= self._episode.ended:  # else its place in the ring has been given away
                slot = self.device[attempt.number & (COMPUTING_SLOTS - 1)]
                slot.done_ms, slot.service_ms = now_ms, service_ms or 0.0
        return computed

    def sent(self, attempt: Attempt, now_ms: float) -> None:
        """Its bytes have left."""
        if attempt.sending and attempt.link is not None:
            attempt.sending = False
            self._sending[attempt.link] -= 1
            if not self._sending[attempt.link]:
                self.links[attempt.link].free_ms = now_ms
            if self._tail_of is attempt:
                self._episode.tail_until_ms = now_ms + self._site.tail_ms

    def ended(
        self,
        attempt: Attempt,
        now_ms: float,
        latency_ms: float | None,
        service_ms: float | None = None,
        sending_ms: float | None = None,
    ) -> bool:
        """It was answered, failed or was given up; whether it was the device that computed it until now."""
        self.sent(attempt, now_ms)
        computed = self.computed(attempt, now_ms, service_ms)
        if self.unanswered.get(attempt.node) is attempt:
            del self.unanswered[attempt.node]
            node = self.node_list[attempt.node]
            node.done_ms = now_ms
            node.pending_ms = now_ms - attempt.placed_ms if latency_ms is None else latency_ms
            expected_ms = attempt.expected_ms
            if expected_ms >= UNKNOWN_MS:  # nothing was believed, so the answer is no surprise
                expected_ms = node.pending_ms - self.links[node.link].residual_ms if self.links else 0.0
            node.expected_ms = expected_ms
            node.pending_mbps = sent_mbps(attempt.payload_kb, sending_ms)
        return computed

    def withdrawn(self, attempt: Attempt, now_ms: float) -> None:
        """It never came to its node, of which nothing was learnt."""
        self.sent(attempt, now_ms)
        self.computed(attempt, now_ms, None)
        if self.unanswered.get(attempt.node) is attempt:
            del self.unanswered[attempt.node]
            node = self.node_list[attempt.node]
            node.done_ms = node.answered_ms

    def keep_open(self, now_ms: float) -> None:
        """Let what is unanswered end later than now: close to now, so that differences stay exact."""
        for k, attempt in self.unanswered.items():
            node = self.node_list[k]
            node.pending_ms = 2.0 * (now_ms - attempt.placed_ms) + 1.0
            node.done_ms = attempt.placed_ms + node.pending_ms
