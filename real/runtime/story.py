"""One frame on its way through the engine: what is known of it so far."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from ..interfaces import Answer, Frame
from .calls import Call


@dataclass(frozen=True)
class Judgement:
    """What was decided about a frame, and on which view of the world.

    Attributes:
        observation: encoded vector (F,), or None where there was none.
        mask: allowed placements, 0 or 1 by placement.
        wanted: what the policy chose; None where it was not asked or failed.
        placement: what the shield made of it.
        reason: "policy", or the guard that overruled it.
        fallback_at_s: the clock's time at which a local attempt starts beside a remote one; None: only after a failure.
        decision_us: telemetry read to placement chosen.
    """

    observation: npt.NDArray[np.float32] | None
    mask: tuple[int, ...]
    wanted: str | None
    placement: str
    reason: str
    fallback_at_s: float | None
    decision_us: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a frame gives to whoever embeds the runtime: exactly one for each frame.

    Attributes:
        number: of the frame, as in the log; goes on over restarts.
        frame: the frame.
        answer: its segmentation; None where there is none.
        placement: where it was executed; None without an answer.
        latency_ms: from issue to answer; None without one.
        reason: of the decision, or why there is no answer.
    """

    number: int
    frame: Frame
    answer: Answer | None
    placement: str | None
    latency_ms: float | None
    reason: str


@dataclass(eq=False)
class Story:
    """A frame from issue to record; times of the clock, s."""

    frame: Frame
    number: int
    issued_s: float
    issued_utc: datetime
    gap_s: float  # since the frame before
    judgement: Judgement | None = None
    payload_bytes: Mapping[str, int] = field(default_factory=dict)
    reason: str = "internal-error"  # why there is no decision, until there is one
    fallback: str | None = None
    problem: str | None = None
    calls: list[Call] = field(default_factory=list)
    tasks: dict[asyncio.Task[None], Call] = field(default_factory=dict)
    answered_s: float | None = None
    delivered: bool = False
    recorded: bool = False

    @property
    def winner(self) -> Call | None:
        """The call whose answer is the result."""
        return next((call for call in self.calls if call.used), None)

    @property
    def latency_ms(self) -> float | None:
        """From issue to answer."""
        return None if self.answered_s is None else (self.answered_s - self.issued_s) * 1000

    @property
    def overhead_ms(self) -> float | None:
        """Part of the latency in which no call was under way: our own work."""
        if self.answered_s is None:
            return None
        covered_s, reached_s = 0.0, self.issued_s
        for call in self.calls:  # in the order of their starts
            end_s = min(self.answered_s if call.ended_s is None else call.ended_s, self.answered_s)
            start_s = max(call.started_s, reached_s)
            if end_s > start_s:
                covered_s, reached_s = covered_s + end_s - start_s, end_s
        return (self.answered_s - self.issued_s - covered_s) * 1000

    def result(self) -> Result:
        """What is handed out."""
        winner = self.winner
        reason = self.judgement.reason if self.judgement is not None else self.reason
        return Result(
            self.number,
            self.frame,
            None if winner is None else winner.answer,
            None if winner is None else winner.placement,
            self.latency_ms,
            reason,
        )
