"""Serves the metrics, the status page and its data; read only, on loopback unless told otherwise."""

from __future__ import annotations

import ipaddress
import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ...envs.errors import InputError
from .status_page import PAGE

log = logging.getLogger(__name__)
REQUEST_S = 10.0  # a client that says nothing for so long is dropped
MOST_CONNECTIONS = 16  # at a time; a page that is open has one now and then

# The page holds all it needs; nothing may be loaded from, or sent to, anywhere else.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def parse_listen(text: str) -> tuple[str, int]:
    """An address such as ``127.0.0.1:9464`` or ``[::1]:9464``.

    Raises:
        InputError: it is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"--listen needs HOST:PORT, for example 127.0.0.1:9464, got '{text}'.")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class StatusServer:
    """Answers GET and HEAD of ``/``, ``/status.json``, ``/metrics`` in threads of its own.

    Args:
        listen: ``HOST:PORT``; port 0 takes any free one.
        metrics: the metrics' text.
        status: content of the status.

    Raises:
        InputError: the address cannot be listened on.
    """

    def __init__(
        self, listen: str, metrics: Callable[[], bytes], status: Callable[[], dict[str, Any]]
    ) -> None:
        host, port = parse_listen(listen)
        pages = {
            "/": ("text/html; charset=utf-8", lambda: PAGE.encode()),
            "/status.json": ("application/json", lambda: json.dumps(status(), allow_nan=False).encode()),
            "/metrics": ("text/plain; version=0.0.4; charset=utf-8", metrics),
        }
        only_local = is_loopback(host)
        try:
            self._server = _Server((host, port), _handler(pages, only_local), ":" in host)
        except OSError as err:
            raise InputError(
                f"Cannot listen on {listen}: {err.strerror or err}. Choose another address with --listen, or "
                "--listen none."
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="status-server",
            daemon=True,
        )

    @property
    def address(self) -> str:
        """Where the page is."""
        host, port = self._server.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host}:{port}/"

    def start(self) -> StatusServer:
        """Begin to serve; returns itself."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Serve no more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5.0)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], six: bool) -> None:
        if six:
            import socket

            self.address_family = socket.AF_INET6
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def server_bind(self) -> None:
        """Bind without asking a name server for our own name, which may hang."""
        import socketserver

        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("A client of the status page failed.", exc_info=True)


def _handler(
    pages: dict[str, tuple[str, Callable[[], bytes]]], only_local: bool
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S
        server_version, sys_version = "carbonpilot", ""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            found = pages.get(self.path.partition("?")[0])
            # On loopback only names of loopback are answered: a foreign page that points its own name here (DNS
            # rebinding) reads nothing.
            name = self.headers.get("Host", "localhost").rpartition("]")[2].partition(":")[0] or "::1"
            if only_local and not is_loopback(name):
                self._send(403, "text/plain", b"this address is for this machine only\n", with_body)
            elif found is None:
                self._send(404, "text/plain", b"there are / and /status.json and /metrics\n", with_body)
            else:
                self._page(*found, with_body)

        def _page(self, kind: str, make: Callable[[], bytes], with_body: bool) -> None:
            try:
                body = make()
            except Exception:
                log.exception("The status page could not be made; the run goes on.")
                self._send(500, "text/plain", b"see the run's output\n", with_body)
            else:
                self._send(200, kind, body, with_body)

        def _send(self, code: int, kind: str, body: bytes, with_body: bool) -> None:
            self.send_response(code)
            headers = {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Cache-Control": "no-store",
                "Content-Security-Policy": _POLICY,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Handler
