"""A gRPC server that answers every call at once with a mask of zeros, in a namespace; of the transport benchmarks.

By itself: python benchmarks/mask_server.py PORT MASK_BYTES
"""

from __future__ import annotations

import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc

from carbonpilot.real.testbed.namespaces import run_in


class AnyCall(grpc.GenericRpcHandler):
    """Answers whatever is called."""

    def __init__(self, mask: bytes) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(lambda request, context: mask)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The one handler there is."""
        return self._handler


def mask_server(namespace: str, port: int, mask_bytes: int) -> subprocess.Popen[str]:
    """Start one and wait until it listens."""
    argv = [sys.executable, str(Path(__file__).resolve()), str(port), str(mask_bytes)]
    server = run_in(namespace, argv, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline().strip() == "ready", "the server did not start"
    return server


def end(server: subprocess.Popen[str]) -> None:
    """Stop it."""
    server.terminate()
    server.wait()
    if server.stdout is not None:
        server.stdout.close()


def main() -> None:
    port, mask_bytes = map(int, sys.argv[1:])
    handlers, options = [AnyCall(bytes(mask_bytes))], [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=handlers, options=options)
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
