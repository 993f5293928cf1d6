"""How other processes tell the link's process what to do: one JSON message on a unix socket, answered by one."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 1 << 16


class Orders:
    """Orders for the link: shape, play, counters, stop."""

    def __init__(
        self, path: Path, handle: Callable[[dict[str, Any]], dict[str, Any]], watch_stdin: bool
    ) -> None:
        """Listen at ``path``."""
        self.stopping, self.due_s = False, math.inf
        self._handle = handle
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(8)
        self._listener.setblocking(False)
        self._clients: list[socket.socket] = []
        self._stdin = [sys.stdin.fileno()] if watch_stdin else []
        self._steps: list[tuple[float, dict[str, Any]]] = []
        self._next, self._start_s, self._end_s, self._loop = 0, 0.0, math.inf, False

    def watched(self) -> list[Any]:
        """What the loop must wait for besides packets."""
        return [self._listener, *self._clients, *self._stdin]

    def serve(self, ready: list[Any], now_s: float) -> None:
        """Answer what came in, and take the schedule's next step where its time has come."""
        if self._listener in ready:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients.append(client)
        for client in [c for c in self._clients if c in ready]:
            self._answer(client, now_s)
        if any(handle in ready for handle in self._stdin) and not os.read(self._stdin[0], 1):
            self.stopping = True
        if now_s >= self.due_s:
            self._step(now_s)

    def close(self, path: Path) -> None:
        """Stop listening."""
        for s in (self._listener, *self._clients):
            s.close()
        path.unlink(missing_ok=True)

    def play(self, steps: list[tuple[float, dict[str, Any]]], end_s: float, loop: bool, now_s: float) -> None:
        """Apply each step at its time from now on."""
        self._steps, self._next, self._loop = steps, 0, loop
        self._start_s, self._end_s = now_s, end_s
        self.due_s = now_s + steps[0][0] if steps else math.inf

    def state(self, now_s: float) -> dict[str, Any]:
        """Where the schedule is."""
        if not self._steps:
            return {"schedule": None}
        ended = self._next >= len(self._steps) and now_s >= self._start_s + self._end_s
        return {"schedule": {"step": self._next, "steps": len(self._steps), "ended": ended}}

    def _step(self, now_s: float) -> None:
        if self._next >= len(self._steps):  # its end
            if self._loop:
                self.play(self._steps, self._end_s, True, now_s)
            else:
                self.due_s = math.inf
            return
        self._handle({"do": "step", "profile": self._steps[self._next][1]})
        self._next += 1
        last = self._next >= len(self._steps)
        self.due_s = self._start_s + (self._end_s if last else self._steps[self._next][0])

    def _answer(self, client: socket.socket, now_s: float) -> None:
        try:
            message = client.recv(MESSAGE_BYTES)
            if not message:
                raise ConnectionError
            order = json.loads(message)
            if order.get("do") == "stop":
                self.stopping = True
            answer = self._handle(order) | self.state(now_s)
        except OSError:
            self._clients.remove(client)
            client.close()
            return
        except Exception as error:  # a bad order must not end the link
            answer = {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):
            client.send(json.dumps(answer).encode())
