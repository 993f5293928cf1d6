"""The device's own model, in onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.errors import InputError, MissingExtraError
from ...envs.model_card import INPUT, MASK_SCALE, METADATA_KEY, OUTPUT, ModelCard, read_model_card
from ..interfaces import Answer, ExecutorError, Frame, Image, Mask
from ..site_file import FrameSize, LocalModel, file_sha256
from .device import Device
from .frame_input import model_input
from .local_session import Session, open_session
from .worker import Worker


@dataclass(frozen=True)
class Mend:
    """What to say of a model's file that is wrong: who names it, since when it must be the same, and what to do."""

    named_by: str
    since: str
    missing: str
    changed: str


_MEND = Mend(
    "the site file (deployment.local)",
    "the site was calibrated",
    "Copy it there, or make it with `carbonpilot models export`.",
    "Put the old file back, or run `carbonpilot calibrate` again.",
)


class LocalExecutor:
    """Runs one frame at a time in a thread; those that wait can be given up, and waiting is part of the answer."""

    def __init__(
        self, placement: str, model: LocalModel, frame: FrameSize, folder: Path, device: Device | None = None
    ) -> None:
        """Take the site file's settings; `start` does the work.

        Args:
            placement: name in the scenario.
            model: which file, by which providers.
            frame: size of the frames.
            folder: of the site file, which its paths are relative to.
            device: who computes; shared with the heads of split models.
        """
        self.placement, self.provider = placement, "not started"
        self.card: ModelCard | None = None
        self._model, self._size, self._folder = model, (frame.height, frame.width), folder
        self._device = device or Device()
        self._worker: Worker | None = None
        self._run: Callable[[Image], Any] | None = None

    async def start(self) -> None:
        """Check the file, open it with the providers wanted, and warm it up.

        Raises:
            InputError: the file is missing, has changed or is another kind of model, or none of the providers
                computes here.
        """
        try:
            import onnxruntime  # noqa: F401
        except ImportError as err:
            raise MissingExtraError("The device's own model", "device") from err
        self._worker = self._device.open()
        try:
            session, _ = await self._worker.run(self._open)
        except BaseException:
            await self.close()
            raise
        self.provider, self._run = session.provider, session.run

    def payload_bytes(self, frame: Frame) -> int:
        """Nothing travels."""
        return 0

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Segment a frame; see `Executor.execute`."""
        if self._worker is None or self._run is None:
            raise ExecutorError("cancelled", f"The local model ({self.placement}) is not started, or closed.")
        answer, queued_ms = await self._worker.run(lambda: self._compute(frame), timeout_s)
        return replace(answer, queued_ms=queued_ms)

    async def close(self) -> None:
        """Let the model and its thread go."""
        self._run = None
        if self._worker is not None:
            self._worker = None
            self._device.close()

    def _compute(self, frame: Frame) -> Answer:
        """In the worker."""
        start_s = time.perf_counter()
        image = model_input(frame, self._size)
        run = self._run
        if run is None:
            raise ExecutorError("cancelled", f"The local model ({self.placement}) was closed.")
        prepared_s = time.perf_counter()
        try:
            output = run(image)
        except Exception as err:  # onnxruntime's exceptions have no common base
            raise ExecutorError("model-error", f"The local model failed: {first_line(err)}") from err
        executed_s = time.perf_counter()
        return Answer(
            mask=self._mask(output),
            prepare_ms=1000 * (prepared_s - start_s),
            execute_ms=1000 * (executed_s - prepared_s),
            finish_ms=1000 * (time.perf_counter() - executed_s),
            server=self.provider,
        )

    def _mask(self, output: Any) -> Mask:
        expected = (1, self._size[0] // MASK_SCALE, self._size[1] // MASK_SCALE)
        if not isinstance(output, np.ndarray) or output.shape != expected or output.dtype != np.uint8:
            got = (
                f"{output.shape} {output.dtype}" if isinstance(output, np.ndarray) else type(output).__name__
            )
            raise ExecutorError("wrong-answer", f"The local model gave {got} instead of {expected} uint8.")
        return output[0]

    def _open(self) -> Session:
        file = self._folder / self._model.file
        check_file(file, self._model.sha256, _MEND)
        cache = self._model.engine_cache
        session = open_session(
            file,
            self._model.providers,
            threads=self._model.intra_op_threads,
            engine_cache=None if cache is None else self._folder / cache,
            check=lambda inputs, outputs: _check_tensors(file, self._size, inputs, outputs),
        )
        try:
            self._mask(session.run(np.zeros((1, *self._size, 3), np.uint8)))
        except ExecutorError as err:
            raise InputError(f"{file}: {err} Export it again: carbonpilot models export ...") from err
        if (text := session.metadata.get(METADATA_KEY)) is not None:
            self.card = read_model_card(text, str(file))
        return session


def check_file(file: Path, sha256: str, mend: Mend) -> None:
    """Refuse a model that is not there, or not the one that was calibrated.

    Raises:
        InputError: with the mend.
    """
    if not file.is_file():
        raise InputError(f"No model at {file}: {mend.named_by} names it. {mend.missing}")
    if (got := file_sha256(file)) != sha256:
        raise InputError(
            f"The model {file} has changed since {mend.since}: its SHA-256 is {got[:12]}..., {mend.named_by} "
            f"says {sha256[:12]}.... {mend.changed}"
        )


def _check_tensors(file: Path, size: tuple[int, int], inputs: list[Any], outputs: list[Any]) -> None:
    """Refuse a model that does not turn `INPUT` into `OUTPUT` at the site's size."""
    height, width = size
    wanted = (
        ("input", inputs, INPUT, [1, height, width, 3]),
        ("output", outputs, OUTPUT, [1, height // MASK_SCALE, width // MASK_SCALE]),
    )
    for what, given, name, shape in wanted:
        tensor = given[0] if len(given) == 1 else None
        if tensor is not None and tensor.name == name and tensor.type == "tensor(uint8)":
            # A batch dimension with a name may be anything, also 1.
            batch_free = isinstance(tensor.shape[0], str) and list(tensor.shape[1:]) == shape[1:]
            if list(tensor.shape) == shape or batch_free:
                continue
        got = ", ".join(f"{t.name} {t.type} {t.shape}" for t in given)
        raise InputError(
            f"{file}: expected the {what} {name} tensor(uint8) {shape}, got {got}. Export it for frames of this "
            f"size: carbonpilot models export --height {height} --width {width} ..."
        )


def first_line(err: Exception) -> str:
    """The first line of a message, or what sort of error it is."""
    return (str(err).strip() or type(err).__name__).splitlines()[0][:300]
