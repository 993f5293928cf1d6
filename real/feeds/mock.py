"""A stand-in for Electricity Maps, GB Carbon Intensity and WattTime on this machine, for tests without network.

    python -m carbonpilot.real.feeds.mock --port 8099 --scenario zero

In Python it is a context manager; ``scenario`` may be changed while it runs:

    with MockGrid("ok") as grid:
        feed = GbCarbonIntensity(base_url=grid.url)
        grid.scenario = "silent"
"""

from __future__ import annotations

import argparse
import base64
import secrets
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import mock_forms as forms

LOOPBACK = "127.0.0.1"


class MockGrid:
    """The server; it listens on loopback only.

    Attributes:
        url: its address, once it runs.
        scenario: how it answers, a key of ``mock_forms.SCENARIOS``.
        requests: paths asked for so far, without query and headers.
    """

    def __init__(
        self,
        scenario: str = "ok",
        port: int = 0,
        *,
        carbon_g_per_kwh: float = 187.0,
        delay_s: float = 30.0,
        token: str | None = None,
        login: tuple[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Bind the port; answers begin with ``with`` or `start`.

        Args:
            scenario: how to answer.
            port: 0 for a free one.
            carbon_g_per_kwh: the number in good answers.
            delay_s: how long a slow answer takes.
            token: the Electricity Maps token that is accepted; any if None.
            login: user and password that WattTime accepts; any if None.
            now: the sources' time.
        """
        self.scenario = scenario
        self.carbon_g_per_kwh, self.delay_s, self.token, self.login, self.now = (
            carbon_g_per_kwh,
            delay_s,
            token,
            login,
            now,
        )
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.stopping = threading.Event()
        self._server = _Server((LOOPBACK, port), _Handler)
        self._server.grid = self
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"
        self._thread: threading.Thread | None = None

    @property
    def scenario(self) -> str:
        """How it answers."""
        return self._scenario

    @scenario.setter
    def scenario(self, name: str) -> None:
        if name not in forms.SCENARIOS:
            raise ValueError(f"unknown scenario {name!r}; known: {', '.join(forms.SCENARIOS)}")
        self._scenario = name

    def start(self) -> MockGrid:
        """Answer in a thread."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="mock-grid"
        )
        self._thread.start()
        return self

    def serve(self) -> None:
        """Answer until interrupted."""
        self._server.serve_forever()

    def stop(self) -> None:
        """End the threads, also of answers that are still being held back, and free the port."""
        self.stopping.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> MockGrid:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them, so none is left behind
    grid: MockGrid

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0, so that no idle connection holds a thread."""

    timeout = 10.0
    server: _Server

    def do_GET(self) -> None:
        grid, url = self.server.grid, urlsplit(self.path)
        grid.requests.append(url.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        scenario = grid.scenario
        if scenario == "silent":
            grid.stopping.wait()
        elif scenario == "down" or (scenario == "flaky" and len(grid.requests) % 3):
            self._send(503, {"error": "service unavailable"})
        elif scenario == "busy":
            self._send(429, {"error": "too many requests"}, {"Retry-After": "120"})
        elif scenario == "redirect":
            self._send(302, {}, {"Location": "http://example.invalid/"})
        elif scenario == "malformed":
            self._send_bytes(200, b"<html><body>Please log in to the hotel's network</body></html>")
        elif url.path == "/login":
            self._login()
        else:
            self._answer(scenario, url.path, query)

    def _answer(self, scenario: str, path: str, query: dict[str, str]) -> None:
        grid = self.server.grid
        refused = self._refused(scenario, path)
        if refused:
            self._send(401, {"error": refused})
            return
        now = forms.CHANGED_TIMES.get(scenario, lambda t: t)(grid.now())
        content = forms.content_of(
            path, query, now, forms.VALUES.get(scenario, grid.carbon_g_per_kwh), scenario
        )
        if content is None:
            self._send(404, {"error": f"no such path or zone: {path}"})
        elif scenario == "empty":
            self._send(200, {})
        elif scenario == "cut-off":
            self._send_bytes(200, forms.encoded(content)[:-30])
        else:
            self._send(200, content, drip_s=grid.delay_s if scenario == "slow" else 0.0)

    def _refused(self, scenario: str, path: str) -> str:
        """Why the caller is refused, or ''. Some sources send the token back, so this one does as well."""
        grid = self.server.grid
        if path.startswith("/v3/carbon-intensity"):
            got = self.headers.get("auth-token", "")
            if not got or scenario == "expired" or (grid.token is not None and got != grid.token):
                return f"Invalid auth-token {got}"
        if path == "/v3/forecast":
            got = self.headers.get("authorization", "").removeprefix("Bearer ")
            first = grid.tokens[:1] if scenario == "expired" else []
            if got not in grid.tokens or got in first:
                return f"token expired: {got}"
        return ""

    def _login(self) -> None:
        grid = self.server.grid
        basic = self.headers.get("authorization", "").removeprefix("Basic ")
        expected = None if grid.login is None else base64.b64encode(":".join(grid.login).encode()).decode()
        if not basic or (expected is not None and basic != expected):
            self._send(403, {"error": f"wrong user or password: {basic}"})
            return
        grid.tokens.append(secrets.token_urlsafe(24))
        self._send(200, {"token": grid.tokens[-1]})

    def _send(
        self, status: int, content: Any, headers: dict[str, str] | None = None, drip_s: float = 0.0
    ) -> None:
        self._send_bytes(status, forms.encoded(content), headers, drip_s)

    def _send_bytes(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, drip_s: float = 0.0
    ) -> None:
        self.send_response_only(status)
        self.send_header("Date", format_datetime(self.server.grid.now(), usegmt=True))
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        for i in range(len(body) if drip_s else 0):
            self.wfile.write(body[i : i + 1])
            if self.server.grid.stopping.wait(drip_s / len(body)):
                return
        self.wfile.write(b"" if drip_s else body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet; ``MockGrid.requests`` has the paths."""


def main(arguments: list[str] | None = None) -> int:
    """Serve on the command line until Ctrl-C."""
    scenarios = "\n".join(f"  {name:<11} {what}" for name, what in forms.SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m carbonpilot.real.feeds.mock",
        description="Grid feeds for testing, on loopback.",
        epilog=f"scenarios:\n{scenarios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 for a free one")
    parser.add_argument("--scenario", choices=list(forms.SCENARIOS), default="ok", metavar="NAME")
    parser.add_argument("--carbon", type=float, default=187.0, help="number in good answers, g/kWh")
    parser.add_argument("--delay-s", type=float, default=30.0, help="how long a slow answer takes, s")
    chosen = parser.parse_args(arguments)
    try:
        grid = MockGrid(chosen.scenario, chosen.port, carbon_g_per_kwh=chosen.carbon, delay_s=chosen.delay_s)
    except (OSError, OverflowError) as err:
        print(f"Cannot listen on port {chosen.port}: {err}. Choose another with --port.", file=sys.stderr)
        return 2
    print(f"{grid.url} answers like the grid feeds, scenario {chosen.scenario}; Ctrl-C ends it", flush=True)
    try:
        grid.serve()
    except KeyboardInterrupt:
        pass
    finally:
        grid.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
