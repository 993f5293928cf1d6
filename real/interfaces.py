"""What the rooms of the device agree on: a frame, what executes it, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..envs.errors import CarbonPilotError

# Why a call gave no result. `timeout`: its deadline passed. `unreachable`: no connection. `rejected`: the server
# turned it away (queue full, overload). `wrong-answer`: an answer of another shape, type or range than agreed.
# `model-error`: the model or its server failed. `cancelled`: we gave it up ourselves.
ErrorKind = Literal["timeout", "unreachable", "rejected", "wrong-answer", "model-error", "cancelled"]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]


class ExecutorError(CarbonPilotError):
    """A call that gave no result.

    Attributes:
        kind: what sort of failure, for breakers and counters.
        queued_ms: how long the call had waited for the executor, as in `Answer`.
    """

    def __init__(self, kind: ErrorKind, message: str, queued_ms: float = 0.0) -> None:
        """Say what was expected, what came and the likely cause."""
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.queued_ms = queued_ms


@dataclass(frozen=True)
class Frame:
    """One image that waits for its segmentation.

    Attributes:
        index: position in the stream, from 0, without gaps.
        name: file name, or time stamp of a camera's frame.
        rgb: pixels (H, W, 3) at the size of the site's model, or None where the frame could not be read.
        jpeg: the same as a JPEG file, where the source has it or the site sends it; None otherwise.
        captured_s: the clock's monotonic time at which it was there.
        problem: why there are no pixels; None for a good frame. Such a frame still gets its result and log line.
    """

    index: int
    name: str
    rgb: Image | None
    jpeg: bytes | None
    captured_s: float
    problem: str | None = None


@dataclass(frozen=True)
class Answer:
    """A segmented frame and what the call was made of. Times in ms; None where the executor cannot know.

    Attributes:
        mask: class of each pixel (h, w) uint8, at the model's output scale.
        prepare_ms: pixels to input (decode, resize, normalise or encode).
        execute_ms: the call itself: the session's run, or request sent to answer received.
        finish_ms: output to mask.
        sent_bytes, received_bytes: payload on the wire; 0 locally.
        server: version and name of the model that answered.
        queued_ms: waiting until the executor was free (the device computes one frame at a time), before all of this.
        head_queued_ms, head_ms: of a split model: waiting until the device was free, and computing the start there,
            before everything else; 0 for whole models.
    """

    mask: Mask
    prepare_ms: float
    execute_ms: float
    finish_ms: float
    sent_bytes: int = 0
    received_bytes: int = 0
    server: str = ""
    notes: tuple[str, ...] = field(default=())
    queued_ms: float = 0.0
    head_queued_ms: float = 0.0
    head_ms: float = 0.0


class Executor(Protocol):
    """Executes frames at one placement; used from one asyncio event loop.

    Attributes:
        placement: name of the placement in the scenario.
        provider: what computes, as reported ("CPUExecutionProvider", "triton 2.51 onnxruntime"), for logs and doctor.
    """

    placement: str
    provider: str

    async def start(self) -> None:
        """Load, connect, check shapes, warm up; slow.

        Raises:
            InputError: the model or server is missing or another one than the site file says, with the mend.
        """
        ...

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Segment a frame; may be cancelled.

        Args:
            frame: with pixels (and JPEG where the placement sends it).
            timeout_s: give up after this long; None: never.

        Raises:
            ExecutorError: no result, and why.
        """
        ...

    def payload_bytes(self, frame: Frame) -> int:
        """What executing this frame would put on the wire; 0 locally. Does no work worth mentioning."""
        ...

    async def close(self) -> None:
        """Let go of everything; harmless when called twice."""
        ...


@dataclass(frozen=True)
class Head:
    """What the device has computed of a split model.

    Attributes:
        parts: the activation as it travels, by name of the input.
        queued_ms: waiting until the device was free.
        head_ms: pixels to activation.
    """

    parts: tuple[tuple[str, npt.NDArray[Any]], ...]
    queued_ms: float
    head_ms: float

    @property
    def sent_bytes(self) -> int:
        """Payload on the wire."""
        return sum(values.nbytes for _, values in self.parts)


@runtime_checkable
class HeadAndTail(Executor, Protocol):
    """Executes a split model: its start (the head) on the device, the rest (the tail) on a server.

    `execute` does both, one after the other; who shares the device among frames asks for one at a time.
    """

    async def head(self, frame: Frame, timeout_s: float | None) -> Head:
        """Compute the start on the device; what has begun is finished even if it is given up.

        Raises:
            ExecutorError: no result; nothing was sent.
        """
        ...

    async def tail(self, frame: Frame, head: Head, timeout_s: float | None) -> Answer:
        """Send the activation and wait for the server's answer; the answer tells of the head as well.

        Raises:
            ExecutorError: no result, and why.
        """
        ...
