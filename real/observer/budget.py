"""Frames and misses of an endless stream, in blocks of as many frames as an episode has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...envs.next_request import advance


@dataclass(frozen=True)
class Carried:
    """What a restart goes on with; see docs/shield.md, "The budget of misses".

    Attributes:
        frames: frames so far of the block that was under way.
        missed: misses among them.
        recent_miss_rate: smoothed share of misses.
    """

    frames: int = 0
    missed: float = 0.0
    recent_miss_rate: float = 0.0


class Budget:
    """When each open frame's fate is known, and what it is; counts in the `EPISODE` are kept by `advance`.

    Frames have the simulator's numbers, from 0 in each block; those of the block before have numbers below 0.
    """

    def __init__(self, episode: Any, block: int, slo_ms: float, carried: Carried) -> None:
        """Go on with what was carried over; ``block`` is the number of frames in a block."""
        self._episode, self._block, self._slo_ms = episode, block, slo_ms
        episode.n = episode.next_known = carried.frames
        episode.spent_misses, episode.recent_miss = carried.missed, carried.recent_miss_rate
        # By (number, 0), as `advance` reads them.
        self._known_at: dict[tuple[int, int], float] = {}
        self._miss: dict[tuple[int, int], int] = {}
        self._start = -carried.frames

    @property
    def frame(self) -> int:
        """Number of the newest frame, from 0 in this process."""
        return self._start + self._episode.n

    def open(self, issued_ms: float) -> None:
        """The newest frame begins; without a result it is a miss, known at its deadline."""
        key = (self._episode.n, 0)
        self._known_at[key], self._miss[key] = issued_ms + self._slo_ms, 1

    def finished(self, frame: int, now_ms: float, missed: bool) -> None:
        """A frame has its result; ignored if its deadline has passed: the miss is known already."""
        key = (frame - self._start, 0)
        if key in self._miss:
            self._known_at[key] = min(self._known_at[key], now_ms)
            self._miss[key] = int(missed)

    def advance(self, site: Any, nodes: Any, now_ms: float) -> None:
        """Let time pass to the next frame, and begin the next block where this one is full."""
        e = self._episode
        before = e.next_known
        advance(site, e, 0, nodes, self._known_at, self._miss, now_ms)
        for n in range(before, e.next_known):
            del self._known_at[n, 0]
            missed = self._miss.pop((n, 0))
            if n < 0:  # of the block before
                e.spent_misses -= missed
        if e.n >= self._block:
            self._new_block()

    def _new_block(self) -> None:
        e, size = self._episode, self._block
        self._known_at = {(n - size, 0): at for (n, _), at in self._known_at.items()}
        self._miss = {(n - size, 0): missed for (n, _), missed in self._miss.items()}
        e.n, e.next_known, e.spent_misses = e.n - size, e.next_known - size, 0.0
        self._start += size

    def carry(self, begun: bool) -> Carried:
        """What the next process needs; frames without result count as missed."""
        e = self._episode
        frames = e.n + begun
        if frames >= self._block:
            return Carried(0, 0.0, e.recent_miss)
        still_open = sum(missed for (n, _), missed in self._miss.items() if n >= 0)
        return Carried(frames, e.spent_misses + still_open, e.recent_miss)
