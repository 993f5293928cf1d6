"""The calls of a run that gave a result, as the requests of a tape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ..log_records import Attempt, FrameRecord

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

# A call that began this long after its frame was there, what the runtime itself takes not counted, was not the first
# thing tried (deadline, failure), so its own time is compared and not the frame's.
LATE_START_MS = 5.0


@dataclass(frozen=True)
class Served:
    """Requests in the order in which they were sent (N,).

    Attributes:
        frame: number of the frame.
        placement: index of the placement that answered.
        arrival_ms: when the call that answered began; the frame's issue, unless other things were tried first.
        latency_ms: from there to the result.
        payload_kb: what offloading it as a whole sends.
        device_wait_ms, head_ms: of a split model's call: waiting for the device, and the head; 0 of whole models.
        energy_j, carbon_mg: marginal, as the run accounted for it; NaN where the account failed, carbon also where
            the grid was unknown.
        second: the frame was answered by a second call, after a failure, a deadline, or beside another.
        unanswered: frames without any result.
        failed: calls that gave no result.
    """

    frame: I64
    placement: I64
    arrival_ms: F64
    latency_ms: F64
    payload_kb: F64
    device_wait_ms: F64
    head_ms: F64
    energy_j: F64
    carbon_mg: F64
    second: npt.NDArray[np.bool_]
    unanswered: int
    failed: int

    def part(self, chosen: npt.NDArray) -> Served:
        """Some of the requests."""
        arrays = {k: v[chosen] for k, v in vars(self).items() if k not in ("unanswered", "failed")}
        return Served(**arrays, unanswered=0, failed=0)

    def __len__(self) -> int:
        return len(self.frame)


def served(frames: list[FrameRecord], placements: list[str], where: str) -> Served:
    """Collect the calls that answered.

    Raises:
        InputError: no frame was answered, or a record contradicts itself.
    """
    rows = []
    for frame in frames:
        call = _answering(frame, where)
        if call is None or frame.latency_ms is None:
            continue
        runtime_ms = frame.overhead_ms or 0.0  # on a slow processor it alone can pass the limit
        late = call.started_ms - frame.issued_ms - runtime_ms > LATE_START_MS
        began = call.started_ms if late else frame.issued_ms
        rows.append(
            (
                frame.frame,
                placements.index(call.placement),
                began,
                frame.issued_ms + frame.latency_ms - began,
                frame.payload_kb,
                call.head_queued_ms,
                call.head_ms,
                np.nan if frame.energy_j_marginal is None else frame.energy_j_marginal,
                np.nan if frame.carbon_mg_marginal is None else frame.carbon_mg_marginal,
                len(frame.attempts) > 1,
            )
        )
    if not rows:
        raise InputError(f"{where}: none of {len(frames)} frames has a result, so nothing can be compared.")
    rows.sort(key=lambda row: row[2])
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Served(
        *columns[:2],
        *(c.astype(np.float64) for c in columns[2:9]),
        second=columns[9].astype(bool),
        unanswered=len(frames) - len(rows),
        failed=sum(a.error is not None for f in frames for a in f.attempts),
    )


def _answering(frame: FrameRecord, where: str) -> Attempt | None:
    """The call whose answer is the frame's result."""
    if frame.executed is None:
        return None
    used = [a for a in frame.attempts if a.used]
    if len(used) != 1 or used[0].placement != frame.executed:
        raise InputError(
            f"{where}: frame {frame.frame} says that '{frame.executed}' answered, and {len(used)} of its calls say "
            "that they did. The log was changed, or written by another program."
        )
    return used[0]
