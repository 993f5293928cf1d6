"""A model on a Triton server: a compact frame there, the mask back, within a deadline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...envs.errors import InputError, MissingExtraError
from ...envs.model_card import INPUT, MASK_SCALE, OUTPUT
from ..interfaces import Answer, ExecutorError, Frame, Mask
from ..site_file import FrameSize, RemoteModel
from .frame_input import pixels
from .triton_channel import TritonChannel, executor_error
from .triton_checks import check_served_model

if TYPE_CHECKING:
    from tritonclient.grpc import InferInput

WARM_UP_CALLS = 2  # the first opens the model's memory at the server, the second is as later ones are
WARM_UP_TIMEOUT_S = 5.0


class TritonExecutor:
    """One placement on a server. Calls run side by side on one connection; the server queues and batches them."""

    def __init__(self, placement: str, model: RemoteModel, frame: FrameSize, channel: TritonChannel) -> None:
        """Take the site file's settings; `start` connects.

        Args:
            placement: name in the scenario.
            model: which model, and how frames travel.
            frame: size of the frames.
            channel: to its node's server.
        """
        self.placement, self.provider = placement, "not started"
        self._model, self._size, self._channel = model, frame, channel
        self._mask_size = (frame.height // MASK_SCALE, frame.width // MASK_SCALE)
        self._classes = 0
        self._open = False

    async def start(self) -> None:
        """Connect, check the server's model against the site file, and call it.

        Raises:
            InputError: no server answers (`triton_checks.UnreachableServerError`), or its model is missing or
                another than the site file says.
        """
        try:
            self._channel.open()
        except (ImportError, RuntimeError) as err:  # RuntimeError: tritonclient without its extra grpc
            raise MissingExtraError(f"Placement {self.placement} (a Triton server)", "device") from err
        self._open = True
        try:
            served = await check_served_model(self._channel, self._model, self._size)
            self.provider, self._classes = served.provider, served.classes
            await self._warm_up()
        except BaseException:
            await self.close()
            raise

    def payload_bytes(self, frame: Frame) -> int:
        """The JPEG file, or the pixels."""
        if self._model.encoding == "jpeg":
            return 0 if frame.jpeg is None else len(frame.jpeg)
        return 0 if frame.rgb is None else frame.rgb.nbytes

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Send a frame and wait for its mask; see `Executor.execute`."""
        from tritonclient.utils import InferenceServerException

        start_s = time.perf_counter()
        client = self._channel.client
        tensor, sent_bytes = self._input(frame)
        prepared_s = time.perf_counter()
        if timeout_s is not None and timeout_s <= 0:
            raise ExecutorError("timeout", f"{self.placement}: its deadline had passed before it was sent.")
        try:
            result: Any = await client.infer(
                self._model.model, [tensor], self._model.version, client_timeout=timeout_s
            )
        except InferenceServerException as err:
            raise executor_error(err, f"{self.placement} ({self._channel.address})") from err
        except asyncio.CancelledError:
            if self._open:
                raise
            # gRPC cancels the calls of a connection that is closed, as if their tasks had been cancelled.
            raise ExecutorError("cancelled", f"{self.placement}: closed during the call.") from None
        answered_s = time.perf_counter()
        response: Any = result.get_response()
        mask, received_bytes = self._mask(response)
        return Answer(
            mask=mask,
            prepare_ms=1000 * (prepared_s - start_s),
            execute_ms=1000 * (answered_s - prepared_s),
            finish_ms=1000 * (time.perf_counter() - answered_s),
            sent_bytes=sent_bytes,
            received_bytes=received_bytes,
            server=f"{self._channel.address} {response.model_name} version {response.model_version}",
        )

    async def close(self) -> None:
        """Let the connection go; calls under way end as cancelled."""
        if self._open:
            self._open = False
            await self._channel.close()

    def _input(self, frame: Frame) -> tuple[InferInput, int]:
        """The frame as the model's input, and its size as payload."""
        from tritonclient.grpc import InferInput

        if self._model.encoding == "jpeg":
            jpeg = frame.jpeg
            if jpeg is None:
                raise ExecutorError(
                    "model-error", f"Frame {frame.index} has no JPEG, which {self.placement} needs."
                )
            tensor, files = InferInput(INPUT, [1, 1], "BYTES"), np.empty((1, 1), object)
            files[0, 0] = jpeg
            tensor.set_data_from_numpy(files)
            return tensor, len(jpeg)
        rgb = pixels(frame)
        tensor = InferInput(INPUT, [1, *rgb.shape], "UINT8")
        tensor.set_data_from_numpy(rgb[np.newaxis])
        return tensor, rgb.nbytes

    def _mask(self, response: Any) -> tuple[Mask, int]:
        """The mask of an answer, and the answer's size.

        Raises:
            ExecutorError: it is not of the agreed name, type, shape or range.
        """
        outputs, raw = response.outputs, response.raw_output_contents
        height, width = self._mask_size
        if len(outputs) == len(raw) == 1:
            output, data = outputs[0], raw[0]
            named = output.name == OUTPUT and output.datatype == "UINT8"
            if named and list(output.shape) == [1, height, width] and len(data) == height * width:
                mask = np.frombuffer(data, np.uint8).reshape(height, width)
                if mask.max() < self._classes:
                    return mask, len(data)
                raise self._wrong(f"class {mask.max()}, the model has {self._classes}")
        got = "; ".join(f"{o.name} {o.datatype} {list(o.shape)}" for o in outputs) or "no output"
        raise self._wrong(f"{got} instead of {OUTPUT} UINT8 {[1, height, width]}")

    def _wrong(self, got: str) -> ExecutorError:
        return ExecutorError("wrong-answer", f"{self.placement} ({self._channel.address}) answered {got}.")

    async def _warm_up(self) -> None:
        """Call the model as frames will; one that cannot be called fails here and not at the first frame.

        Raises:
            InputError: it gave no mask.
        """
        grey = Frame(
            0, "warm-up", np.full((self._size.height, self._size.width, 3), 128, np.uint8), None, 0.0
        )
        if self._model.jpeg_quality is not None:
            from ..frames.jpeg import encode_jpeg

            assert grey.rgb is not None
            grey = replace(grey, jpeg=encode_jpeg(grey.rgb, self._model.jpeg_quality))
        try:
            for _ in range(WARM_UP_CALLS):
                await self.execute(grey, WARM_UP_TIMEOUT_S)
        except ExecutorError as err:
            raise InputError(
                f"Model '{self._model.model}' is served but does not segment a grey frame. {err} The server's log "
                "says more."
            ) from err
