"""A split model: the device computes up to the cut, a Triton server the rest, within one deadline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ...envs.errors import InputError, MissingExtraError
from ..interfaces import Answer, ExecutorError, Frame, Head
from ..segments.manifest import Segment, read_manifest
from ..segments.wire import TRITON_TYPES
from ..site_file import FrameSize, LocalModel, RemoteModel
from .device import Device
from .head import HeadModel
from .triton import WARM_UP_CALLS, WARM_UP_TIMEOUT_S, grey_frame
from .triton_channel import TritonChannel
from .triton_checks import check_served_tail
from .triton_model import TritonModel
from .worker import Worker

if TYPE_CHECKING:
    from tritonclient.grpc import InferInput


class SplitExecutor:
    """One cut of a model. The head takes its turn on the device as whole models do; tails run side by side."""

    def __init__(
        self,
        placement: str,
        model: RemoteModel,
        local: LocalModel,
        frame: FrameSize,
        folder: Path,
        channel: TritonChannel,
        device: Device,
    ) -> None:
        """Take the site file's settings; `start` does the work.

        Args:
            placement: name in the scenario.
            model: which segments and cut, and what the tail is called on the server.
            local: how the device computes.
            frame: size of the frames.
            folder: of the site file, which its paths are relative to.
            channel: to the node's server.
            device: whose worker computes the head.
        """
        self.placement, self.provider = placement, "not started"
        self._model, self._local, self._size, self._folder = model, local, frame, folder
        self._channel, self._device = channel, device
        self._worker: Worker | None = None
        self._segment: Segment | None = None
        self._head: HeadModel | None = None
        self._served = TritonModel(placement, model, frame, channel)

    async def start(self) -> None:
        """Check the segments, open the head, connect, check the tail that is served, and try both together.

        A server that does not answer leaves the head open: it may be there at the next try.

        Raises:
            InputError: no manifest, another file or cut than it says, a head that this device cannot run, or no server
                (`triton_checks.UnreachableServerError`), or another model there.
        """
        try:
            segment = self._segment = self._segment or self._read()
            if self._head is None:
                await self._open_head(segment)
            self._served.open()
            served = await check_served_tail(self._channel, self._model, segment, self._size)
            self.provider = f"{self._head_provider()}, then {served.provider}"
            self._served.classes = served.classes
            await self._warm_up()
        except BaseException:
            await self._served.close()
            raise

    def payload_bytes(self, frame: Frame) -> int:
        """The activation; the same for every frame."""
        return 0 if self._segment is None else self._segment.wire_bytes

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """Both parts, one after the other; see `Executor.execute`."""
        began_s = time.perf_counter()
        head = await self.head(frame, timeout_s)
        left_s = None if timeout_s is None else timeout_s - (time.perf_counter() - began_s)
        return await self.tail(frame, head, left_s)

    async def head(self, frame: Frame, timeout_s: float | None) -> Head:
        """Compute the head; see `interfaces.HeadAndTail`."""
        if self._head is None:
            raise ExecutorError("cancelled", f"{self.placement} is not started, or closed.")
        return await self._head.compute(frame, timeout_s)

    async def tail(self, frame: Frame, head: Head, timeout_s: float | None) -> Answer:
        """Send the activation and wait for the mask."""
        start_s = time.perf_counter()
        tensors = [_tensor(name, values) for name, values in head.parts]
        prepared_s = time.perf_counter()
        said = await self._served.infer(tensors, timeout_s)
        return Answer(
            mask=said.mask,
            prepare_ms=1000 * (prepared_s - start_s),
            execute_ms=said.execute_ms,
            finish_ms=said.finish_ms,
            sent_bytes=head.sent_bytes,
            received_bytes=said.received_bytes,
            server=said.server,
            head_queued_ms=head.queued_ms,
            head_ms=head.head_ms,
        )

    async def close(self) -> None:
        """Let head and connection go."""
        await self._served.close()
        if self._head is not None:
            self._head.close()
            self._head = None
        if self._worker is not None:
            self._worker = None
            self._device.close()

    def _read(self) -> Segment:
        """The cut in the segments' manifest.

        Raises:
            InputError: no manifest, or no such cut in it.
        """
        assert self._model.segments is not None
        assert self._model.cut is not None
        manifest = read_manifest(self._folder / self._model.segments)
        try:
            return manifest.segment(self._model.cut)
        except InputError as err:
            raise InputError(f"deployment.remote.{self.placement}.cut: {err}") from err

    async def _open_head(self, segment: Segment) -> None:
        try:
            import onnxruntime  # noqa: F401
        except ImportError as err:
            raise MissingExtraError(f"The head of {self.placement}", "device") from err
        if self._worker is None:
            self._worker = self._device.open()
        assert self._model.segments is not None
        folder = self._folder / self._model.segments
        head = HeadModel(segment, folder, self._folder, self._local, self._size)
        try:
            await head.open(self._worker)
        except InputError as err:
            raise InputError(f"Placement {self.placement}: {err}") from err
        self._head = head

    def _head_provider(self) -> str:
        return "no head" if self._head is None else self._head.provider

    async def _warm_up(self) -> None:
        """Call both parts as frames will.

        Raises:
            InputError: they gave no mask.
        """
        try:
            for _ in range(WARM_UP_CALLS):
                await self.execute(grey_frame(self._size), WARM_UP_TIMEOUT_S)
        except ExecutorError as err:
            raise InputError(
                f"The tail '{self._model.model}' is served but makes no mask of the head's activation. {err} The "
                "server's log says more."
            ) from err


def _tensor(name: str, values: npt.NDArray[Any]) -> InferInput:
    from tritonclient.grpc import InferInput

    tensor = InferInput(name, list(values.shape), TRITON_TYPES[values.dtype.name])
    tensor.set_data_from_numpy(values)
    return tensor
