"""Split models: their heads as the device's own work, their tails as a server's."""

from __future__ import annotations

from collections.abc import Sequence

from ...envs.units import BYTES_PER_KB
from ..interfaces import Answer, Executor, Frame, Head, HeadAndTail
from .calls import TIMEOUT_S
from .job import Job
from .ledger import Ledger
from .local import enter_service
from .rehearsal import head_times_ms


class Tails:
    """An executor of the tail alone: heads are computed before, so that tails can come to a server together."""

    def __init__(self, inner: HeadAndTail, heads: dict[int, Head]) -> None:
        """Take what `computed_heads` gave."""
        self.placement, self.provider = inner.placement, inner.provider
        self._inner, self._heads = inner, heads

    async def start(self) -> None:
        """It is started."""

    def payload_bytes(self, frame: Frame) -> int:
        """As the executor itself."""
        return self._inner.payload_bytes(frame)

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Send the activation of a frame whose head was computed."""
        return await self._inner.tail(frame, self._heads[frame.index], timeout_s)

    async def close(self) -> None:
        """It is closed by whoever started it."""


async def tails_of(executor: Executor, frames: Sequence[Frame]) -> Executor:
    """The executor, or the tail alone of a split model's.

    Raises:
        ExecutorError: a head failed.
    """
    if not isinstance(executor, HeadAndTail):
        return executor
    return Tails(executor, {frame.index: await executor.head(frame, TIMEOUT_S) for frame in frames})


async def heads_at_work(job: Job, placement: str, unpaced_per_s: float = 1.0) -> list[float]:
    """What the device takes for a split model's heads in the runtime, ms.

    Args:
        job: its effort says of how many frames.
        placement: the split one.
        unpaced_per_s: rate where the base's camera waits for each answer.

    Raises:
        InputError: the runtime does not run.
    """
    job.tell(f"{placement}: heads in the runtime")
    rate_per_s = 1 / job.gap_s if job.gap_s > 0 else unpaced_per_s
    return head_times_ms(await job.rehearse(job.effort.at_work, rate_per_s, placement)).tolist()


def enter_head(
    ledger: Ledger, index: int, executor: HeadAndTail, times_ms: Sequence[float], frame: Frame
) -> None:
    """Enter what a split placement asks of the device and of the link; ``times_ms`` are of its heads."""
    key = f"placements.{index}.split"
    method = f"heads at the camera's rate, {executor.provider}, packing included"
    enter_service(ledger, f"{key}.service", times_ms, method)
    ledger.derived(
        f"{key}.activation_kb", executor.payload_bytes(frame) / BYTES_PER_KB, "the segments' manifest"
    )
