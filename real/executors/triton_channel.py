"""A connection to a Triton server, shared by the placements of its node, and what its failures mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...envs.errors import InputError
from ...envs.records import GIVEN_UP_MS
from ..interfaces import ErrorKind, ExecutorError
from ..site_file import Server, Tls

if TYPE_CHECKING:
    from tritonclient.grpc.aio import InferenceServerClient
    from tritonclient.utils import InferenceServerException

MAX_MESSAGE_BYTES = (
    64 * 2**20
)  # our frames have less than 10 MB; given, because own arguments replace the client's
CONNECT_MS = 3000  # for TCP, TLS and HTTP/2: four round trips of 600 ms, ten times the slowest profile's
BACKOFF_MS = 1000  # at most, between two attempts; gRPC's own would grow to two minutes
NEVER_MS = (
    2**31 - 2
)  # no keepalive pings, which a Triton server punishes; only with this set is GIVEN_UP_MS heeded

CHANNEL_ARGUMENTS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", BACKOFF_MS),
    ("grpc.keepalive_time_ms", NEVER_MS),
    ("grpc.keepalive_timeout_ms", int(GIVEN_UP_MS)),
    # Two executors of one process must not share a connection by accident: closing one would close the other's.
    ("grpc.use_local_subchannel_pool", 1),
)


class TritonChannel:
    """A gRPC connection; opened for the first that needs it, closed when the last has let it go."""

    def __init__(self, server: Server, folder: Path) -> None:
        """Take the site file's settings.

        Args:
            server: address and certificates.
            folder: of the site file, which its paths are relative to.
        """
        self.address = server.grpc
        self.encrypted = server.tls is not None
        self._tls, self._folder = server.tls, folder
        self._client: InferenceServerClient | None = None
        self._users = 0

    @property
    def client(self) -> InferenceServerClient:
        """The open connection.

        Raises:
            ExecutorError: it is not open.
        """
        if self._client is None:
            raise ExecutorError("cancelled", f"The connection to {self.address} is not open.")
        return self._client

    def open(self) -> InferenceServerClient:
        """Begin to use it, in the event loop that will; nothing is sent so far.

        Raises:
            InputError: a certificate is not there.
        """
        if self._client is None:
            # Read when gRPC is loaded; its own lines on standard error tell what our errors tell.
            os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
            from tritonclient.grpc.aio import InferenceServerClient

            self._client = InferenceServerClient(
                self.address,
                ssl=self.encrypted,
                channel_args=list(CHANNEL_ARGUMENTS),
                **certificates(self._tls, self._folder),  # type: ignore[arg-type]
            )
        self._users += 1
        return self._client

    async def close(self) -> None:
        """Use it no more."""
        self._users = max(self._users - 1, 0)
        if self._users == 0 and self._client is not None:
            client, self._client = self._client, None
            await client.close()


def certificates(tls: Tls | None, folder: Path) -> dict[str, str | None]:
    """Paths of the certificates, as the client takes them.

    Raises:
        InputError: one is not there.
    """
    paths: dict[str, str | None] = {}
    for key, name in ({} if tls is None else tls.model_dump()).items():
        file = None if name is None else folder / name
        if file is not None and not file.is_file():
            raise InputError(f"No certificate at {file}: the site file (tls.{key}) names it.")
        paths[key] = None if file is None else str(file)
    return paths


# All of them are UNAVAILABLE, as a refused connection is; seen with Triton 2.51.
_REJECTIONS = ("Exceeds maximum queue size", "Request timeout expired")
_BROKEN_STREAM = "RST_STREAM"


def error_kind(err: InferenceServerException) -> ErrorKind:
    """What sort of failure a gRPC status and its message are."""
    status, message = (err.status() or "").removeprefix("StatusCode."), err.message() or ""
    if status == "DEADLINE_EXCEEDED":
        return "timeout"
    if status == "RESOURCE_EXHAUSTED" or any(words in message for words in _REJECTIONS):
        return "rejected"
    if status == "UNAVAILABLE" or _BROKEN_STREAM in message:
        return "unreachable"
    return "cancelled" if status == "CANCELLED" else "model-error"


def executor_error(err: InferenceServerException, what: str) -> ExecutorError:
    """The failure of a call as ours; ``what`` says which call of whom."""
    message = (err.message() or err.status() or "no reason given").strip().splitlines()[0][:300]
    return ExecutorError(error_kind(err), f"{what}: {message}")
