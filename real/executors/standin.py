"""A stand-in for a placement: takes the scenario's service time and computes nothing.

For long runs of the runtime with a fast model, and for machines without a model or a server.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import numpy as np

from ...envs.schema import LOCAL, Placement
from ...envs.units import BYTES_PER_KB
from ..interfaces import Answer, ErrorKind, ExecutorError, Frame, Head
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
        worker: Worker | None = None,
    ) -> None:
        """Stand in for ``placement``.

        Args:
            placement: from the scenario, with its service time.
            seed: of the drawn service times.
            mask_size: height and width of the answers.
            parallelism: frames computed at a time; a node's ``parallelism``, 1 on the device.
            worker: who takes the time; None: one of its own.
        """
        # Late: this brings the simulator's compiler, where it is installed, into a process that may be small.
        from ...envs.service import quantile_table

        self.placement, self.provider = placement.name, "stand-in"
        self.failing: ErrorKind | None = None
        self.mask_size = mask_size
        self._local = placement.node == LOCAL
        self._service_s = (quantile_table(placement.service) / 1000).tolist()
        self._random = random.Random(seed)
        self._worker = worker or Worker(f"stand-in for {placement.name}", parallelism)

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


class StandInSplitExecutor(StandInExecutor):
    """The same for a split model: the head takes its time in the device's worker, the tail in the node's.

    Attributes:
        head_failing: as ``failing``, of the head.
    """

    def __init__(self, placement: Placement, *, device: Worker, **settings: Any) -> None:
        """Stand in; ``device`` computes the heads, the rest is as above."""
        from ...envs.service import quantile_table

        super().__init__(placement, **settings)
        assert placement.split is not None
        self.head_failing: ErrorKind | None = None
        self._head_s = (quantile_table(placement.split.service) / 1000).tolist()
        self._bytes = round(placement.split.activation_kb * BYTES_PER_KB)
        self._device = device

    def payload_bytes(self, frame: Frame) -> int:
        """The activation."""
        return self._bytes

    async def head(self, frame: Frame, timeout_s: float | None) -> Head:
        """Wait for the device and the head's time."""
        pixels(frame)
        service_s = self._random.choice(self._head_s)
        slept_s, queued_ms = await self._device.run(lambda: _sleep(service_s), timeout_s)
        if self.head_failing is not None:
            message = f"The stand-in for the head of {self.placement} was told to fail: {self.head_failing}."
            raise ExecutorError(self.head_failing, message, queued_ms)
        return Head((), queued_ms, slept_s * 1000)

    async def tail(self, frame: Frame, head: Head, timeout_s: float | None) -> Answer:
        """Wait for the node and the tail's time."""
        answer = await super().execute(frame, timeout_s)
        return replace(answer, head_queued_ms=head.queued_ms, head_ms=head.head_ms)

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Both, one after the other."""
        began_s = time.perf_counter()
        head = await self.head(frame, timeout_s)
        left_s = None if timeout_s is None else timeout_s - (time.perf_counter() - began_s)
        return await self.tail(frame, head, left_s)


def _sleep(service_s: float) -> float:
    """Sleep; returns how long it really was, s."""
    start_s = time.perf_counter()
    time.sleep(service_s)
    return time.perf_counter() - start_s
