"""One direction of the relay: what happens to each packet between its two ends. Times in s, monotonic clock."""

from __future__ import annotations

import math
import os
import random
from collections import deque

JITTER_TIME_S = 0.1  # correlation time of the delay's offset, as in the recorded uploads
_STEP_S = 0.001  # the offset moves in steps of this length; packets of one burst share it
QUEUE_PACKETS = 1000  # waiting for the rate; netem's default limit
_LATE_BIN_S, _LATE_BINS = 1e-4, 200  # lateness is counted in 0.1 ms up to 20 ms


class Jitter:
    """The offset of the round-trip time: Gaussian, correlated over `JITTER_TIME_S` (Ornstein-Uhlenbeck)."""

    def __init__(self, rng: random.Random) -> None:
        """Stand at no offset until the first packet."""
        self._rng, self._unit, self._at_s = rng, 0.0, -1e9

    def unit(self, now_s: float) -> float:
        """The offset now, in standard deviations."""
        passed = now_s - self._at_s
        if passed >= _STEP_S:
            kept = math.exp(-passed / JITTER_TIME_S)
            self._unit = kept * self._unit + math.sqrt(1.0 - kept * kept) * self._rng.gauss(0.0, 1.0)
            self._at_s = now_s
        return self._unit


class Lane:
    """Packets from one TUN device to another, with delay, loss and a rate; their order is kept.

    Args:
        source, sink: file descriptors.
        rng: decides the losses.
    """

    def __init__(self, source: int, sink: int, rng: random.Random) -> None:
        """Let everything pass at once until `shape` is called."""
        self.source, self.sink, self._random = source, sink, rng.random
        self._queue: deque[tuple[float, bytes]] = deque()
        # When the bits of each packet in the queue have left; for the queue's limit.
        self._leaving: deque[float] = deque()
        self._free_s = self._last_s = 0.0
        self.shape(0.0, 0.0, 0.0, math.inf, False)
        self.reset()

    def shape(self, delay_s: float, jitter_s: float, loss: float, bytes_per_s: float, cut: bool) -> None:
        """Change what happens to packets from now on; those under way keep their time."""
        self._delay_s, self._jitter_s, self._loss = delay_s, jitter_s, loss
        self._s_per_byte = 1.0 / bytes_per_s
        self._cut = cut

    def reset(self) -> None:
        """Begin to count anew."""
        self.packets = self.bytes = self.lost = self.overflowed = self.cut = self.refused = 0
        self.late = [0] * (_LATE_BINS + 1)
        self.latest_s = 0.0

    @property
    def due_s(self) -> float:
        """When the next packet must be released; infinite if none waits."""
        return self._queue[0][0] if self._queue else math.inf

    def read(self, now_s: float, jitter: Jitter, most: int) -> bool:
        """Take up to ``most`` packets in; whether there may be more."""
        source, queue = self.source, self._queue
        offset_s = self._jitter_s * jitter.unit(now_s) if self._jitter_s else 0.0
        delay_s = max(self._delay_s + offset_s, 0.0)
        leaving = self._leaving
        while leaving and leaving[0] <= now_s:
            leaving.popleft()
        for _ in range(most):
            try:
                packet = os.read(source, 2048)
            except BlockingIOError:
                return False
            if self._cut:
                self.cut += 1
                continue
            if len(leaving) >= QUEUE_PACKETS:
                self.overflowed += 1
                continue
            free_s = max(now_s, self._free_s) + len(packet) * self._s_per_byte
            self._free_s = free_s
            leaving.append(free_s)
            # Loss after the bottleneck: a lost packet has used the rate, as on a radio link.
            if self._loss and self._random() < self._loss:
                self.lost += 1
                continue
            self._last_s = max(free_s + delay_s, self._last_s)
            queue.append((self._last_s, packet))
        return True

    def release(self, now_s: float, most: int) -> None:
        """Hand on up to ``most`` packets whose time has come, noting how late each is."""
        queue, late = self._queue, self.late
        for _ in range(most):
            if not queue or queue[0][0] > now_s:
                return
            due_s, packet = queue.popleft()
            try:
                os.write(self.sink, packet)
            except OSError:  # the device is down or has no buffer left
                self.refused += 1
                continue
            self.packets += 1
            self.bytes += len(packet)
            behind_s = now_s - due_s
            late[min(int(behind_s / _LATE_BIN_S), _LATE_BINS)] += 1
            if behind_s > self.latest_s:
                self.latest_s = behind_s

    def counts(self) -> dict[str, int]:
        """Packets and bytes handed on, and packets that were not, by reason."""
        names = ("packets", "bytes", "lost", "overflowed", "cut", "refused")
        return {name: getattr(self, name) for name in names}


def lateness_ms(lanes: list[Lane]) -> dict[str, float]:
    """Median, 99 % and greatest lateness of the packets released, ms (upper edges of 0.1 ms bins)."""
    bins = [sum(column) for column in zip(*(lane.late for lane in lanes), strict=True)]
    return {
        "p50": _quantile(bins, 0.5),
        "p99": _quantile(bins, 0.99),
        "max": 1e3 * max(lane.latest_s for lane in lanes),
    }


def _quantile(bins: list[int], share: float) -> float:
    wanted, seen = share * sum(bins), 0
    if wanted == 0:
        return 0.0
    for i, count in enumerate(bins):
        seen += count
        if seen >= wanted:
            return 1e3 * (i + 1) * _LATE_BIN_S
    return 1e3 * _LATE_BINS * _LATE_BIN_S
