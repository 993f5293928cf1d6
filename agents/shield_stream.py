"""One episode under the shield: its guards, and what they can learn of answers from observations alone."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from .shield_guards import LOCAL_INDEX, Guards
from .shield_settings import ShieldSettings
from .shield_sight import ShieldSight


@dataclass(slots=True)
class _Request:
    """A request that was placed, what was predicted of it, and whether its fate was learned."""

    issued_ms: float
    placement: int
    believed_ms: float
    upper_ms: float
    learned: bool = False


class Stream:
    """Feeds the guards of one episode.

    A node's last latency and the age of its unanswered request tell of the newest request there, so no matching is
    needed. Of the others at least the misses are known, at their deadlines and in order: without them, only answers
    that are faster than the next request would be learned. A miss on the device also says that it was busy until then,
    and what was placed there later comes after it.
    """

    def __init__(self, sight: ShieldSight, settings: ShieldSettings) -> None:
        """Nothing was placed yet."""
        self._sight, self._guards = sight, Guards(sight, settings)
        self._newest: list[_Request | None] = [None] * len(sight.outstanding)  # unanswered, by node
        self._waiting: deque[_Request] = deque()  # for their deadlines
        self._device: deque[tuple[float, float]] = (
            deque()
        )  # issue and service time of what the device was given
        self._busy_until_ms = 0.0  # the device, at least
        self._values: list[float] = []
        self._sound = True
        self._now_ms, self._spent = 0.0, 0.0
        self._slo_ms = sight.scenario.slo.latency_ms

    @property
    def guards(self) -> Guards:
        """Of this episode."""
        return self._guards

    def look(self, values: list[float], sound: bool, mask: list[bool]) -> list[bool]:
        """Take in an observation; returns what is allowed (P,)."""
        guards, self._sound = self._guards, sound
        if not sound:
            return [a == LOCAL_INDEX for a in range(len(mask))]
        self._values = values
        i, scale = self._sight.gap
        self._now_ms += values[i] * scale
        late_ms = self._learn_answers(values)
        self._learn_misses(values)
        i, scale = self._sight.device_backlog
        late_ms.append(max(0.0, self._busy_until_ms - self._now_ms - values[i] * scale))
        guards.look(values, late_ms)
        for a, may in enumerate(mask):
            if not may:
                guards.forbid(a, "masked")
        return guards.allowed

    def judge(self, wanted: int) -> tuple[int, str]:
        """The placement, and the reason."""
        if not self._sound:
            return LOCAL_INDEX, "bad-observation"
        placement, reason = self._guards.judge(wanted)
        believed_ms = self._sight.believed_ms(self._values, placement)
        request = _Request(self._now_ms, placement, believed_ms, self._guards.upper_ms(placement))
        self._waiting.append(request)
        node = self._sight.node_of[placement]
        if node > 0:
            self._newest[node - 1] = request
        share = self._sight.device_share[placement]
        if share > 0.0:
            i, scale = self._sight.device_backlog
            whole_ms = self._sight.believed_ms(self._values, LOCAL_INDEX) - self._values[i] * scale
            service_ms = share * whole_ms
            self._device.append((self._now_ms, service_ms))
            self._busy_until_ms = max(self._busy_until_ms, self._now_ms) + service_ms
        return placement, reason

    def _learn_answers(self, values: list[float]) -> list[float]:
        """Take in what was answered; returns how overdue the links' unanswered requests are (L,), ms."""
        s = self._sight
        late_ms = [0.0] * len(s.probe_age)
        for k, request in enumerate(self._newest):
            if request is None:
                continue
            i, scale = s.outstanding[k]
            waiting_ms = values[i] * scale
            if waiting_ms <= 0.0:
                i, scale = s.last_latency[k]
                self._learn(request, values[i] * scale)
                self._newest[k] = None
            else:
                link = s.link_of_node[k]
                late_ms[link] = max(late_ms[link], waiting_ms - request.upper_ms)
        return late_ms

    def _learn(self, request: _Request, latency_ms: float) -> None:
        if not request.learned:
            request.learned = True
            self._guards.answer(request.placement, latency_ms, request.believed_ms)

    def _learn_misses(self, values: list[float]) -> None:
        """Find which requests missed: misses become known at their deadlines, in order."""
        i, scale = self._sight.spent
        spent = values[i] * scale
        missed = round((spent - self._spent) * self._sight.miss_budget)
        self._spent = spent
        due: list[_Request] = []
        while self._waiting and self._waiting[0].issued_ms + self._slo_ms <= self._now_ms + 1e-3:
            due.append(self._waiting.popleft())
        due.sort(
            key=lambda request: -request.upper_ms
        )  # if several were due and not all missed: the likeliest
        for n, request in enumerate(due):
            local = self._sight.node_of[request.placement] == 0
            if n < missed:
                if local:
                    self._device_missed(request.issued_ms)
                else:
                    self._learn(request, math.inf)
            elif not local and request.upper_ms >= self._slo_ms:  # in time, so below its upper latency
                self._learn(request, 0.0)

    def _device_missed(self, issued_ms: float) -> None:
        """The device was not done with a request at its deadline; what it was given later comes after that."""
        while self._device and self._device[0][0] <= issued_ms:
            self._device.popleft()
        later_ms = sum(service_ms for _, service_ms in self._device)
        self._busy_until_ms = max(self._busy_until_ms, issued_ms + self._slo_ms + later_ms)
