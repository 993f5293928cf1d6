"""A tiny echo server, the other end of the echo probe: ``python -m carbonpilot.real.probes.echo --port 7007``.

It sends back what it gets and keeps nothing. A message that announces an upload (`upload_header`) is sent back only
once the bytes it announces have come, and these are thrown away: so `calibrate` times transfers. One thread, a limited
number of connections; a client that sends without reading is dropped. Listens on loopback unless told otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import struct
import threading
from dataclasses import dataclass

from ...envs.errors import CarbonPilotError, InputError

MOST_CONNECTIONS = 64
MOST_UPLOAD_BYTES = 1 << 28
_CHUNK = 4096
_UPLOAD_CHUNK = 1 << 18
_UPLOAD = struct.Struct("!4sQ")
_UPLOAD_MAGIC = b"CPu1"


def upload_header(n_bytes: int) -> bytes:
    """The message before an upload of that many bytes; the server sends it back when all of them have come."""
    if not 0 < n_bytes <= MOST_UPLOAD_BYTES:
        raise InputError(f"an upload has from 1 to {MOST_UPLOAD_BYTES} bytes, got {n_bytes}")
    return _UPLOAD.pack(_UPLOAD_MAGIC, n_bytes)


def _announced(data: bytes) -> int:
    """Bytes of the upload that a message announces; 0 if it announces none."""
    if len(data) < _UPLOAD.size or not data.startswith(_UPLOAD_MAGIC):
        return 0
    n_bytes = _UPLOAD.unpack_from(data)[1]
    return n_bytes if n_bytes <= MOST_UPLOAD_BYTES else 0


@dataclass
class _Upload:
    """An upload under way: what announced it, and the bytes still to come."""

    header: bytes
    missing: int


class EchoServer:
    """Serve echoes in a thread of its own until `stop`; a context manager.

    Args:
        host: address to listen on.
        port: 0 takes any free one, see `port`.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Open the port and begin to serve."""
        if not 0 <= port <= 65535:
            raise InputError(f"port must be between 0 and 65535, got {port}")
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._listener = socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another port with --port."
            ) from error
        self._listener.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._clients: dict[socket.socket, _Upload | None] = {}
        self._thread = threading.Thread(target=self._serve, name="echo-server", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.getsockname()[1]

    def stop(self) -> None:
        """End the thread and close every connection; harmless when called twice."""
        if self._wake.fileno() >= 0:
            self._wake.close()
        self._thread.join()

    def wait(self) -> None:
        """Serve until the process is interrupted."""
        self._thread.join()

    def __enter__(self) -> EchoServer:
        """Use as a context manager: stopped at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _serve(self) -> None:
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._woken:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._echo(key.fileobj)  # type: ignore[arg-type]
        finally:
            for client in list(self._clients):
                self._drop(client)
            self._selector.close()
            self._listener.close()
            self._woken.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the client may be gone already
            client, _ = self._listener.accept()
            if len(self._clients) >= MOST_CONNECTIONS:
                client.close()
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _ack_at_once(client)
            self._clients[client] = None
            self._selector.register(client, selectors.EVENT_READ)

    def _echo(self, client: socket.socket) -> None:
        try:
            upload = self._clients[client]
            data = client.recv(_CHUNK if upload is None else min(upload.missing, _UPLOAD_CHUNK))
            if upload is None and (n_bytes := _announced(data)):
                upload = self._clients[client] = _Upload(data[: _UPLOAD.size], n_bytes)
                data = data[_UPLOAD.size :]
                if not data:
                    return
            if upload is not None:
                upload.missing -= len(data)
                if data and upload.missing > 0:
                    return
                self._clients[client], data = None, upload.header if data else b""
            if data and client.send(data) == len(data):
                _ack_at_once(client)
                return
        except OSError:
            pass
        self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client, None)
        self._selector.unregister(client)
        client.close()


def _ack_at_once(client: socket.socket) -> None:
    """Let the kernel acknowledge the next probe itself: the other end times that, not when this process woke up.

    After an answer the kernel would rather wait for the next one (Linux tcp(7), TCP_QUICKACK), so it is told each time.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def main() -> int:
    """Serve until interrupted; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="carbonpilot.real.probes.echo", description="Answer CarbonPilot's link probes."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, required=True, help="TCP port; 0 takes any free one")
    options = parser.parse_args()
    try:
        with EchoServer(options.host, options.port) as server:
            print(f"echo server on {options.host}:{server.port}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
    except CarbonPilotError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
