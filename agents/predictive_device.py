"""What a rule works out about its own device: the backlog that belief does not show, and how near throttling is."""

from __future__ import annotations

import numpy as np

from ..envs.schema import Scenario, Throttling
from .predictive_view import Floats, View

KNOWN_BUSY_MS = np.float32(1.0)  # a believed backlog above this, and yet the device is idle: it was faster
RAMP = np.float32(0.05)  # utilisation over which nearness rises from 0 to 1


class HiddenBacklog:
    """A pessimistic Lindley recursion: every image takes a little longer than believed.

    The believed backlog follows the mean service time. At a utilisation near one the true one wanders above it and is
    not shown, because the observation only tells whether the device is busy. When it is idle though belief says busy,
    the recursion starts again at zero.

    Attributes:
        hidden_ms: by how much the pessimistic backlog exceeds the believed one (B,).
    """

    def __init__(self) -> None:
        """Start without episodes."""
        self.start(0)

    def start(self, batch: int) -> None:
        """Begin ``batch`` episodes with an idle device."""
        self._pessimistic_ms = np.zeros(batch, np.float32)
        self._believed_ms = np.zeros(batch, np.float32)
        self.hidden_ms = np.zeros(batch, np.float32)

    def advance(self, view: View) -> None:
        """Let the time since the last request pass."""
        self._pessimistic_ms = np.maximum(self._pessimistic_ms - view.gap_ms, 0)
        self._believed_ms = np.maximum(self._believed_ms - view.gap_ms, 0)
        idle = (self._believed_ms > KNOWN_BUSY_MS) & (view.device_backlog_ms <= 0)
        np.copyto(self._pessimistic_ms, 0, where=idle)
        self.hidden_ms = np.maximum(self._pessimistic_ms - view.device_backlog_ms, 0)

    def note(self, share: Floats, view: View, inflation_ms: Floats) -> None:
        """Add what the device does of the request; a whole one takes ``inflation_ms`` longer than believed.

        The share (B,) is 1 for a request on the device, less for the first part of a split one, 0 for others.
        """
        service_ms = view.latency_ms[0] - view.device_backlog_ms
        self._pessimistic_ms += share * (service_ms + inflation_ms)
        self._believed_ms += share * service_ms


class Heat:
    """How near the device is to throttling, in spite of an offset of its temperature that nobody measures.

    The device throttles when shown heat plus hidden offset passes `hot_utilisation`, and recovers below
    `cool_utilisation`. So a shown heat without throttling bounds the offset from above, one with it from below.

    Attributes:
        throttled: whether it is (B,).
        nearness: 0 far from throttling, 1 at it, as seen from `reserve` below it (B,).
    """

    def __init__(self, scenario: Scenario) -> None:
        """Take thresholds and the spread of the offset from the scenario; without throttling nothing is near."""
        self._spec: Throttling | None = scenario.device.throttling
        self.start(0)

    def start(self, batch: int) -> None:
        """Begin ``batch`` episodes, each with an unknown offset."""
        spread = 0.0 if self._spec is None else self._spec.ambient_spread
        self._least, self._most = np.full(batch, -spread, np.float32), np.full(batch, spread, np.float32)
        self.throttled = np.zeros(batch, bool)
        self.nearness = np.zeros(batch, np.float32)

    def learn(self, view: View, reserve: Floats) -> None:
        """Narrow the offset down and work out nearness; ``reserve`` is in units of utilisation."""
        if self._spec is None:
            return
        hot, cool = np.float32(self._spec.hot_utilisation), np.float32(self._spec.cool_utilisation)
        self.throttled = view.device_throttled > 0
        from_below, from_above = cool - view.device_heat, hot - view.device_heat
        self._least = np.where(self.throttled, np.maximum(self._least, from_below), self._least)
        self._most = np.where(self.throttled, self._most, np.minimum(self._most, from_above))
        felt = view.device_heat + np.float32(0.5) * (self._least + self._most)
        self.nearness = np.clip((felt - (hot - reserve)) / RAMP, 0, 1)
