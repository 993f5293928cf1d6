"""Frames and misses of an endless stream, in blocks of as many frames as an episode has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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

    Frames have the simulator's numbers, from 0 in each block; those of the block before have numbers below 0. A frame
    whose fate is known stays until its block ends: to delete it would cost time on the way to a decision.
    """

    def __init__(
        self, episode: Any, block: int, slo_ms: float, carried: Carried, advance: Callable[[Any, Any, float], None]
    ) -> None:  # fmt: skip
        """Go on with what was carried over.

        Args:
            episode: the `EPISODE`.
            block: number of frames in a block.
            slo_ms: after which a frame is a miss.
            carried: what an earlier process left.
            advance: `envs.next_request.advance` from ``known_at`` on, with all before it fixed.
        """
        self._advance = advance
        self._episode, self._block, self._slo_ms = episode, block, slo_ms
        episode.n = episode.next_known = carried.frames
        episode.spent_misses, episode.recent_miss = carried.missed, carried.recent_miss_rate
        # By number, as `advance` reads them.
        self._known_at: dict[int, float] = {}
        self._miss: dict[int, int] = {}
        self._start = -carried.frames

    @property
    def frame(self) -> int:
        """Number of the newest frame, from 0 in this process."""
        return self._start + self._episode.n

    def open(self, issued_ms: float) -> None:
        """The newest frame begins; without a result it is a miss, known at its deadline."""
        n = self._episode.n
        self._known_at[n], self._miss[n] = issued_ms + self._slo_ms, 1

    def finished(self, frame: int, now_ms: float, missed: bool) -> None:
        """A frame has its result; ignored if its deadline has passed: the miss is known already."""
        n = frame - self._start
        if n in self._miss and n >= self._episode.next_known:
            self._known_at[n] = min(self._known_at[n], now_ms)
            self._miss[n] = int(missed)

    def advance(self, now_ms: float) -> None:
        """Let time pass to the next frame, and begin the next block where this one is full."""
        e = self._episode
        before = e.next_known
        self._advance(self._known_at, self._miss, now_ms)
        if before < 0:  # what is known now of the block before does not count in this one
            e.spent_misses -= sum(self._miss[n] for n in range(before, min(e.next_known, 0)))
        if e.n >= self._block:
            self._new_block()

    def _new_block(self) -> None:
        e, size = self._episode, self._block
        still_open = range(e.next_known, e.n)
        self._known_at = {n - size: self._known_at[n] for n in still_open}
        self._miss = {n - size: self._miss[n] for n in still_open}
        e.n, e.next_known, e.spent_misses = e.n - size, e.next_known - size, 0.0
        self._start += size

    def carry(self, begun: bool) -> Carried:
        """What the next process needs; frames without result count as missed."""
        e = self._episode
        frames = e.n + begun
        if frames >= self._block:
            return Carried(0, 0.0, e.recent_miss)
        still_open = sum(self._miss[n] for n in range(max(e.next_known, 0), frames))
        return Carried(frames, e.spent_misses + still_open, e.recent_miss)
