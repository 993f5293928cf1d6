"""An executor whose server need not be there at the start: it is tried again until it is."""

from __future__ import annotations

import asyncio
import logging

from ..executors.triton_checks import UnreachableServerError
from ..interfaces import Answer, Executor, ExecutorError, Frame, Head, HeadAndTail

RETRY_S = 5.0

log = logging.getLogger(__name__)


class LateExecutor:
    """Starts an executor when its server answers; calls before that fail as ``unreachable``.

    Attributes:
        refused: why the server, once it answered, cannot be used (another model, say); None otherwise.
    """

    def __init__(self, inner: Executor, retry_s: float = RETRY_S) -> None:
        """Wrap an executor that has not been started."""
        self.placement, self.provider = inner.placement, "no answer yet"
        self.refused: str | None = None
        self._inner, self._retry_s = inner, retry_s
        self._up = False
        self._trying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start, or go on trying in the background.

        Raises:
            InputError: the server answers, but is not the one that the site file means.
        """
        try:
            await self._begin()
        except UnreachableServerError as err:
            log.warning("%s: %s Frames go elsewhere until it answers.", self.placement, err)
            self._trying = asyncio.get_running_loop().create_task(self._try_again())

    def payload_bytes(self, frame: Frame) -> int:
        """As the executor itself."""
        return self._inner.payload_bytes(frame)

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        """As the executor itself, once it is there."""
        self._need()
        return await self._inner.execute(frame, timeout_s)

    async def close(self) -> None:
        """Try no more, and let go of everything."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
        await self._inner.close()

    def _need(self) -> None:
        if not self._up:
            why = self.refused or "its server has not answered since the start"
            raise ExecutorError("unreachable", f"{self.placement}: {why}.")

    async def _begin(self) -> None:
        await self._inner.start()
        self.provider, self._up = self._inner.provider, True

    async def _try_again(self) -> None:
        while not self._up:
            await asyncio.sleep(self._retry_s)
            try:
                await self._begin()
                log.info("%s: its server is there now (%s).", self.placement, self._inner.provider)
            except UnreachableServerError:
                continue
            except Exception as err:
                self.refused = str(err)
                log.error("%s: %s It is not used.", self.placement, err)
                return


class LateSplitExecutor(LateExecutor):
    """The same for a split model: without its server the device does not compute its head either."""

    def __init__(self, inner: HeadAndTail, retry_s: float = RETRY_S) -> None:
        """Wrap an executor that has not been started."""
        super().__init__(inner, retry_s)
        self._parts = inner

    async def head(self, frame: Frame, timeout_s: float | None) -> Head:
        """As the executor itself, once its server is there."""
        self._need()
        return await self._parts.head(frame, timeout_s)

    async def tail(self, frame: Frame, head: Head, timeout_s: float | None) -> Answer:
        """As the executor itself."""
        return await self._parts.tail(frame, head, timeout_s)


def late(inner: Executor) -> Executor:
    """An executor that is tried again until its server is there."""
    return LateSplitExecutor(inner) if isinstance(inner, HeadAndTail) else LateExecutor(inner)
