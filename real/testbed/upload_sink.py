"""The other end of a measured upload: reads the payload, answers with 1,024 bytes, and again.

``python -m carbonpilot.real.testbed.upload_sink --port 7100``; each connection begins with its payload's size.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import threading

from .scheduling import prefer_processor

REPLY_BYTES = 1024
HEADER = struct.Struct("!Q")  # payload bytes of every upload on this connection
_CHUNK = 1 << 18


def receive(connection: socket.socket, n_bytes: int, buffer: memoryview) -> bool:
    """Read exactly that many bytes; False where the other end closed instead."""
    while n_bytes > 0:
        got = connection.recv_into(buffer, min(n_bytes, len(buffer)))
        if got == 0:
            return False
        n_bytes -= got
    return True


def serve(connection: socket.socket) -> None:
    """Answer uploads until the other end closes."""
    prefer_processor()
    buffer, reply = memoryview(bytearray(_CHUNK)), bytes(REPLY_BYTES)
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not receive(connection, HEADER.size, buffer[: HEADER.size]):
            return
        (payload,) = HEADER.unpack(buffer[: HEADER.size])
        while receive(connection, payload, buffer):
            connection.sendall(reply)


def main() -> None:
    """Serve until killed, a thread for each connection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    listener = socket.create_server(("", parser.parse_args().port), backlog=64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
