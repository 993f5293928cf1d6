"""A stand-in for a placement: takes the scenario's service time and computes nothing.

For long runs of the runtime with a fast model, and for machines without a model or a server.
"""

from __future__ import annotations

import random
import time

import numpy as np

from ...envs.schema import LOCAL, Placement
from ..interfaces import Answer, ErrorKind, ExecutorError, Frame
from .frame_input import payload_bytes, pixels
from .worker import Worker

CLASSES = 19  # of Cityscapes


class StandInExecutor:
    """Answers after a drawn service time with a mask of one class, ``frame.index % 19``.

    It queues as the real one does: ``parallelism`` frames at a time, in order; what has begun is finished even if
    its caller has given up.

    Attributes:
        failing: set to a kind of failure, every call fails so after its service time; None: none does.
    """

    def __init__(
        self,
        placement: Placement,
        *,
        seed: int,
        mask_size: tuple[int, int],
        parallelism: int = 1,
    ) -> None:
        """Stand in for ``placement``.

        Args:
            placement: from the scenario, with its service time.
            seed: of the drawn service times.
            mask_size: height and width of the answers.
            parallelism: frames computed at a time; a node's ``parallelism``, 1 on the device.
        """
        # Late: this brings the simulator's compiler, where it is installed, into a process that may be small.
        from ...envs.service import quantile_table

        self.placement, self.provider = placement.name, "stand-in"
        self.failing: ErrorKind | None = None
        self.mask_size = mask_size
        self._local = placement.node == LOCAL
        self._service_s = (quantile_table(placement.service) / 1000).tolist()
        self._random = random.Random(seed)
        self._worker = Worker(f"stand-in for {placement.name}", parallelism)

    async def start(self) -> None:
        """Nothing to load."""

    def payload_bytes(self, frame: Frame) -> int:
        """As the real one: the JPEG or the pixels; 0 on the device."""
        return 0 if self._local else payload_bytes(frame)

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Wait for the service time; see `Executor.execute`."""
        pixels(frame)
        service_s = self._random.choice(self._service_s)
        slept_s, queued_ms = await self._worker.run(lambda: _sleep(service_s), timeout_s)
        if self.failing is not None:
            message = f"The stand-in for {self.placement} was told to fail: {self.failing}."
            raise ExecutorError(self.failing, message, queued_ms)
        mask = np.full(self.mask_size, frame.index % CLASSES, np.uint8)
        return Answer(
            mask=mask,
            prepare_ms=0.0,
            execute_ms=slept_s * 1000,
            finish_ms=0.0,
            sent_bytes=self.payload_bytes(frame),
            received_bytes=0 if self._local else mask.nbytes,
            server=self.provider,
            queued_ms=queued_ms,
        )

    async def close(self) -> None:
        """Let the threads go."""
        self._worker.close()


def _sleep(service_s: float) -> float:
    """Sleep; returns how long it really was, s."""
    start_s = time.perf_counter()
    time.sleep(service_s)
    return time.perf_counter() - start_s
