"""One model on a Triton server, called with tensors: what comes back is a mask, or an error that says what failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...envs.errors import MissingExtraError
from ...envs.model_card import MASK_SCALE, OUTPUT
from ..interfaces import ExecutorError, Mask
from ..site_file import FrameSize, RemoteModel
from .triton_channel import TritonChannel, executor_error

if TYPE_CHECKING:
    from tritonclient.grpc import InferInput


@dataclass(frozen=True)
class Said:
    """What a server answered; times in ms."""

    mask: Mask
    received_bytes: int
    execute_ms: float
    finish_ms: float
    server: str


class TritonModel:
    """Calls run side by side on the connection of its node; the server queues and batches them.

    Attributes:
        classes: how many the model has; what lies above is a wrong answer.
    """

    def __init__(self, placement: str, model: RemoteModel, frame: FrameSize, channel: TritonChannel) -> None:
        """Take the site file's settings; `open` connects."""
        self.placement, self.model, self.channel = placement, model, channel
        self.classes = 0
        self._mask_size = (frame.height // MASK_SCALE, frame.width // MASK_SCALE)
        self._open = False

    def open(self) -> None:
        """Begin to use the connection.

        Raises:
            MissingExtraError: the client is not installed.
        """
        try:
            self.channel.open()
        except (ImportError, RuntimeError) as err:  # RuntimeError: tritonclient without its extra grpc
            raise MissingExtraError(f"Placement {self.placement} (a Triton server)", "device") from err
        self._open = True

    async def infer(self, tensors: Sequence[InferInput], timeout_s: float | None) -> Said:
        """Send and wait for the mask.

        Raises:
            ExecutorError: no result, and why.
        """
        from tritonclient.utils import InferenceServerException

        client = self.channel.client
        if timeout_s is not None and timeout_s <= 0:
            raise ExecutorError("timeout", f"{self.placement}: its deadline had passed before it was sent.")
        start_s = time.perf_counter()
        try:
            result: Any = await client.infer(
                self.model.model, list(tensors), self.model.version, client_timeout=timeout_s
            )
        except InferenceServerException as err:
            raise executor_error(err, f"{self.placement} ({self.channel.address})") from err
        except asyncio.CancelledError:
            if self._open:
                raise
            # gRPC cancels the calls of a connection that is closed, as if their tasks had been cancelled.
            raise ExecutorError("cancelled", f"{self.placement}: closed during the call.") from None
        answered_s = time.perf_counter()
        response: Any = result.get_response()
        mask, received_bytes = self._mask(response)
        return Said(
            mask,
            received_bytes,
            1000 * (answered_s - start_s),
            1000 * (time.perf_counter() - answered_s),
            f"{self.channel.address} {response.model_name} version {response.model_version}",
        )

    async def close(self) -> None:
        """Let the connection go; calls under way end as cancelled."""
        if self._open:
            self._open = False
            await self.channel.close()

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
                if mask.max() < self.classes:
                    return mask, len(data)
                raise self._wrong(f"class {mask.max()}, the model has {self.classes}")
        got = "; ".join(f"{o.name} {o.datatype} {list(o.shape)}" for o in outputs) or "no output"
        raise self._wrong(f"{got} instead of {OUTPUT} UINT8 {[1, height, width]}")

    def _wrong(self, got: str) -> ExecutorError:
        return ExecutorError("wrong-answer", f"{self.placement} ({self.channel.address}) answered {got}.")
