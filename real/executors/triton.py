"""A model on a Triton server: a compact frame there, the mask back, within a deadline."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...envs.errors import InputError
from ...envs.model_card import INPUT
from ..interfaces import Answer, ExecutorError, Frame
from ..site_file import FrameSize, RemoteModel
from .frame_input import pixels
from .triton_channel import TritonChannel
from .triton_checks import check_served_model
from .triton_model import TritonModel

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
        self._served = TritonModel(placement, model, frame, channel)

    async def start(self) -> None:
        """Connect, check the server's model against the site file, and call it.

        Raises:
            InputError: no server answers (`triton_checks.UnreachableServerError`), or its model is missing or
                another than the site file says.
        """
        self._served.open()
        try:
            served = await check_served_model(self._channel, self._model, self._size)
            self.provider, self._served.classes = served.provider, served.classes
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
        start_s = time.perf_counter()
        tensor, sent_bytes = self._input(frame)
        prepared_s = time.perf_counter()
        said = await self._served.infer([tensor], timeout_s)
        return Answer(
            mask=said.mask,
            prepare_ms=1000 * (prepared_s - start_s),
            execute_ms=said.execute_ms,
            finish_ms=said.finish_ms,
            sent_bytes=sent_bytes,
            received_bytes=said.received_bytes,
            server=said.server,
        )

    async def close(self) -> None:
        """Let the connection go; calls under way end as cancelled."""
        await self._served.close()

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

    async def _warm_up(self) -> None:
        """Call the model as frames will; one that cannot be called fails here and not at the first frame.

        Raises:
            InputError: it gave no mask.
        """
        grey = grey_frame(self._size)
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


def grey_frame(size: FrameSize) -> Frame:
    """A frame to warm up with."""
    return Frame(0, "warm-up", np.full((size.height, size.width, 3), 128, np.uint8), None, 0.0)
