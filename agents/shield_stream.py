"""One episode under the shield: its guards, and what they can learn of answers from observations alone."""

from __future__ import annotations

from collections import deque

from .shield_guards import LOCAL_INDEX, Guards
from .shield_settings import ShieldSettings
from .shield_sight import ShieldSight


class Stream:
    """Feeds the guards of one episode.

    A node's last latency and the age of its unanswered request tell of the newest request there, so no matching is
    needed. Of the device, only misses are seen: a request of which the deadline passes was not done by then, so the
    device was busy at least until then, and what was placed there later comes after it.
    """

    def __init__(self, sight: ShieldSight, settings: ShieldSettings) -> None:
        """Nothing was placed yet."""
        self._sight, self._guards = sight, Guards(sight, settings)
        nodes = len(sight.outstanding)
        # Of the newest request at each node: placement (-1 once it was answered), belief and upper latency.
        self._asked = [-1] * nodes
        self._believed_ms, self._upper_ms = [0.0] * nodes, [0.0] * nodes
        self._values: list[float] = []
        self._sound = True
        self._now_ms, self._spent = 0.0, 0.0
        self._slo_ms = sight.scenario.slo.latency_ms
        self._waiting: deque[tuple[float, int, float]] = (
            deque()
        )  # issue, placement, upper latency; deadline to come
        self._device: deque[tuple[float, float]] = (
            deque()
        )  # issue and service time of what the device was given
        self._busy_until_ms = 0.0  # the device, at least

    def look(self, values: list[float], sound: bool, mask: list[bool]) -> list[bool]:
        """Take in an observation; returns what is allowed (P,)."""
        guards, self._sound = self._guards, sound
        if not sound:
            return [a == LOCAL_INDEX for a in range(len(mask))]
        self._values = values
        i, scale = self._sight.gap
        self._now_ms += values[i] * scale
        late_ms = self._learn(values)
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
        believed_ms, upper_ms = (
            self._sight.believed_ms(self._values, placement),
            self._guards.upper_ms[placement],
        )
        self._waiting.append((self._now_ms, placement, upper_ms))
        node = self._sight.node_of[placement]
        if node > 0:
            self._asked[node - 1] = placement
            self._believed_ms[node - 1], self._upper_ms[node - 1] = believed_ms, upper_ms
        else:
            i, scale = self._sight.device_backlog
            service_ms = believed_ms - self._values[i] * scale
            self._device.append((self._now_ms, service_ms))
            self._busy_until_ms = max(self._busy_until_ms, self._now_ms) + service_ms
        return placement, reason

    def _learn(self, values: list[float]) -> list[float]:
        """Take in what was answered; returns how overdue the links' unanswered requests are (L,), ms."""
        s = self._sight
        late_ms = [0.0] * len(s.probe_age)
        for k, placement in enumerate(self._asked):
            if placement < 0:
                continue
            i, scale = s.outstanding[k]
            waiting_ms = values[i] * scale
            if waiting_ms <= 0.0:
                i, scale = s.last_latency[k]
                self._guards.answer(placement, values[i] * scale, self._believed_ms[k])
                self._asked[k] = -1
            else:
                link = s.link_of_node[k]
                late_ms[link] = max(late_ms[link], waiting_ms - self._upper_ms[k])
        return late_ms

    def _learn_misses(self, values: list[float]) -> None:
        """Find which requests missed: misses become known at their deadlines, in order."""
        i, scale = self._sight.spent
        spent = values[i] * scale
        count = round((spent - self._spent) * self._sight.miss_budget)
        self._spent = spent
        due = []
        while self._waiting and self._waiting[0][0] + self._slo_ms <= self._now_ms + 1e-3:
            due.append(self._waiting.popleft())
        due.sort(key=lambda request: -request[2])  # if several were due and not all missed: the likeliest
        for issued_ms, placement, _ in due[: max(0, count)]:
            if self._sight.node_of[placement] == 0:
                self._device_missed(issued_ms)

    def _device_missed(self, issued_ms: float) -> None:
        """The device was not done with a request at its deadline; what it was given later comes after that."""
        while self._device and self._device[0][0] <= issued_ms:
            self._device.popleft()
        later_ms = sum(service_ms for _, service_ms in self._device)
        self._busy_until_ms = max(self._busy_until_ms, issued_ms + self._slo_ms + later_ms)
