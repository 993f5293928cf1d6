"""The start of a split model, in onnxruntime on the device: pixels in, one activation out, packed for the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.model_card import INPUT
from ..interfaces import ExecutorError, Frame, Head, Image
from ..segments.manifest import Segment
from ..segments.wire import WireError, pack
from ..site_file import FrameSize, LocalModel
from .frame_input import model_input
from .local import Mend, check_file, first_line
from .local_session import Session, open_session
from .worker import Worker

MEND = Mend(
    "the segments' manifest",
    "the segments were written",
    "Copy the whole folder, or make it with `carbonpilot segments write`.",
    "Copy the whole folder anew, or write the segments and calibrate again.",
)
FLOATS = ("tensor(float)", "tensor(float16)")


class HeadModel:
    """Computes in the device's worker, as whole models do, with the providers of the device's own model."""

    def __init__(
        self, segment: Segment, folder: Path, site_folder: Path, local: LocalModel, size: FrameSize
    ) -> None:
        """Take the settings; `open` does the work.

        Args:
            segment: which cut.
            folder: of the segments.
            site_folder: of the site file, for the folder of TensorRT's engines.
            local: how the device computes.
            size: of the frames.
        """
        self.provider = "not started"
        self._segment, self._file, self._local = segment, folder / segment.head.file, local
        self._cache = None if local.engine_cache is None else site_folder / local.engine_cache
        self._size = (size.height, size.width)
        self._worker: Worker | None = None
        self._run: Callable[[Image], Any] | None = None

    async def open(self, worker: Worker) -> None:
        """Check the file, open it and warm it up.

        Raises:
            InputError: it is missing, another one, or none of the device's providers can run it.
        """
        session, _ = await worker.run(self._open)
        self.provider, self._run, self._worker = session.provider, session.run, worker

    async def compute(self, frame: Frame, timeout_s: float | None) -> Head:
        """Compute the head of a frame in its turn; what has begun goes on to its end even if it is given up.

        Raises:
            ExecutorError: no activation.
        """
        if self._worker is None:
            raise ExecutorError("cancelled", f"The head {self._file} is not started, or closed.")
        head, queued_ms = await self._worker.run(lambda: self._compute(frame), timeout_s)
        return replace(head, queued_ms=queued_ms)

    def close(self) -> None:
        """Let the model go."""
        self._run = self._worker = None

    def _compute(self, frame: Frame) -> Head:
        """In the worker."""
        start_s = time.perf_counter()
        image, run = model_input(frame, self._size), self._run
        if run is None:
            raise ExecutorError("cancelled", f"The head {self._file} was closed.")
        try:
            activation = run(image)
        except Exception as err:  # onnxruntime's exceptions have no common base
            raise ExecutorError("model-error", f"The head {self._file} failed: {first_line(err)}") from err
        try:
            parts = tuple(pack(self._one(activation), self._segment.wire))
        except WireError as err:
            raise ExecutorError("wrong-answer", f"The head {self._file}: {err}.") from err
        return Head(parts, 0.0, 1000 * (time.perf_counter() - start_s))

    def _one(self, activation: Any) -> npt.NDArray[Any]:
        """The activation of one request (1, ...).

        Raises:
            ExecutorError: it is not what the tail takes; a number that is none would be a mask of noise.
        """
        shape = tuple(self._segment.shape)
        if not isinstance(activation, np.ndarray) or activation.shape not in ((1, *shape), shape):
            got = activation.shape if isinstance(activation, np.ndarray) else type(activation).__name__
            raise ExecutorError("wrong-answer", f"The head {self._file} gave {got} instead of {(1, *shape)}.")
        if not np.isfinite(activation).all():
            raise ExecutorError("wrong-answer", f"The head {self._file} gave numbers that are not finite.")
        return activation.reshape(1, *shape)

    def _open(self) -> Session:
        check_file(self._file, self._segment.head.sha256, MEND)
        session = open_session(
            self._file,
            self._local.providers,
            threads=self._local.intra_op_threads,
            engine_cache=self._cache,
            check=self._check_tensors,
            output=self._segment.tensor,
        )
        try:
            self._one(session.run(np.zeros((1, *self._size, 3), np.uint8)))
        except ExecutorError as err:
            raise InputError(f"{err} Write the segments again: carbonpilot segments write ...") from err
        return session

    def _check_tensors(self, inputs: list[Any], outputs: list[Any]) -> None:
        image, tensor, shape = [1, *self._size, 3], self._segment.tensor, self._segment.shape
        takes = inputs[0] if len(inputs) == 1 else None
        if (
            takes is None
            or takes.name != INPUT
            or takes.type != "tensor(uint8)"
            or takes.shape[1:] != image[1:]
        ):
            got = ", ".join(f"{t.name} {t.type} {t.shape}" for t in inputs)
            raise InputError(
                f"{self._file}: expected the input {INPUT} tensor(uint8) {image}, got {got}. Split a model "
                f"exported for this size: carbonpilot models export --height {image[1]} --width {image[2]} ..."
            )
        gives = outputs[0] if len(outputs) == 1 else None
        if (
            gives is None
            or gives.name != tensor
            or gives.type not in FLOATS
            or list(gives.shape[-len(shape) :]) != shape
        ):
            got = ", ".join(f"{t.name} {t.type} {t.shape}" for t in outputs)
            raise InputError(
                f"{self._file}: expected one output {tensor} tensor(float) {shape}, got {got}. Write the segments "
                "again: carbonpilot segments write ..."
            )
