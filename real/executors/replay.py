"""The replay twin of an executor: answers as one did in a run's log, with its times and its failures."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...envs.errors import InputError, unknown_name
from ...envs.schema import LOCAL, Placement
from ..interfaces import Answer, ExecutorError, Frame
from ..log_records import Attempt, FrameRecord, Header, Record
from .frame_input import payload_bytes


@dataclass(frozen=True)
class RecordedCall:
    """A call that ended by itself: it answered or failed, and was not given up.

    Attributes:
        frame: number of the frame in the log.
        payload_bytes: what it sent, or would have sent.
        attempt: the log's own record.
    """

    frame: int
    payload_bytes: int
    attempt: Attempt

    @property
    def duration_ms(self) -> float:
        """From the request to its end, waiting included."""
        return self.attempt.ended_ms - self.attempt.started_ms


def recorded_calls(records: Iterable[Record], placement: str) -> list[RecordedCall]:
    """The calls of one placement in the order of frames; the first that ended, where a frame has several.

    Calls that we gave up are left out: how they would have ended is not in the log.

    Raises:
        InputError: the log knows no such placement.
    """
    calls: dict[int, RecordedCall] = {}
    for record in records:
        if isinstance(record, Header) and placement not in record.placements:
            raise unknown_name("placement of this log", placement, record.placements)
        if not isinstance(record, FrameRecord):
            continue
        for attempt in record.attempts:
            if attempt.placement == placement and attempt.error != "cancelled":
                payload = (
                    round(record.payload_kb * 1000) if attempt.sent_bytes is None else attempt.sent_bytes
                )
                calls.setdefault(record.frame, RecordedCall(record.frame, payload, attempt))
    return [calls[frame] for frame in sorted(calls)]


class ReplayExecutor:
    """Answers each frame as the log's frame of the same number was answered at this placement.

    A frame that was not executed there is answered as the last one before it that was (as the first one, before
    that), and the answer's notes say so. Masks are not in a log: they hold class 0.
    """

    def __init__(
        self, placement: Placement, calls: Sequence[RecordedCall], mask_size: tuple[int, int]
    ) -> None:
        """Take the recorded calls of ``placement``; ``mask_size`` is height and width of the answers."""
        self.placement, self.provider = placement.name, "replay"
        self.mask_size = mask_size
        self._local = placement.node == LOCAL
        self._calls = calls
        self._frames = [call.frame for call in calls]

    async def start(self) -> None:
        """Check that there is something to replay.

        Raises:
            InputError: the log holds no call of this placement.
        """
        if not self._calls:
            raise InputError(
                f"Nothing to replay for {self.placement}: no frame of the log was executed there to its end. "
                "Use a longer log, or a stand-in for this placement."
            )

    def payload_bytes(self, frame: Frame) -> int:
        """Of the recorded frame of the same number, else of this frame; 0 on the device."""
        if self._local:
            return 0
        call = self._call(frame.index)
        return call.payload_bytes if call.frame == frame.index else payload_bytes(frame)

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Take as long as the recorded call and end as it did; see `Executor.execute`."""
        call = self._call(frame.index)
        attempt = call.attempt
        if timeout_s is not None and timeout_s * 1000 < call.duration_ms:
            await asyncio.sleep(timeout_s)
            message = f"{self.placement}: no answer within {timeout_s * 1000:.0f} ms; the recorded call took "
            raise ExecutorError("timeout", f"{message}{call.duration_ms:.0f} ms.", attempt.queued_ms)
        await asyncio.sleep(call.duration_ms / 1000)
        if attempt.error is not None:
            message = f"{self.placement}: failed as in the log ({attempt.error}, frame {call.frame})."
            raise ExecutorError(attempt.error, message, attempt.queued_ms)  # type: ignore[arg-type]
        return self._answer(call, frame)

    def _call(self, frame: int) -> RecordedCall:
        return self._calls[max(bisect_right(self._frames, frame) - 1, 0)]

    def _answer(self, call: RecordedCall, frame: Frame) -> Answer:
        other = () if call.frame == frame.index else (f"as frame {call.frame} of the log",)
        a = call.attempt
        return Answer(
            mask=np.zeros(self.mask_size, np.uint8),
            prepare_ms=a.prepare_ms or 0.0,
            execute_ms=a.execute_ms or 0.0,
            finish_ms=a.finish_ms or 0.0,
            sent_bytes=a.sent_bytes or 0,
            received_bytes=a.received_bytes or 0,
            server=self.provider,
            notes=other,
            queued_ms=a.queued_ms,
            head_queued_ms=a.head_queued_ms,
            head_ms=a.head_ms,
        )

    async def close(self) -> None:
        """Nothing to let go of."""


def replay_executors(
    records: Sequence[Record], placements: Sequence[Placement], mask_sizes: Mapping[str, tuple[int, int]]
) -> dict[str, ReplayExecutor]:
    """A replay twin for each placement of a scenario.

    Args:
        records: of one log.
        placements: the scenario's.
        mask_sizes: placement name -> height and width of its masks.

    Raises:
        InputError: the log was written with other placements.
    """
    return {
        p.name: ReplayExecutor(p, recorded_calls(records, p.name), mask_sizes[p.name]) for p in placements
    }
