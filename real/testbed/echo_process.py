"""An echo server as a process of its own, inside a namespace or on this machine: what link probes talk to."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ...envs.errors import CarbonPilotError
from ..probes import echo
from .child import end_child
from .namespaces import run_in


def start_echo_server(namespace: str | None, host: str, port: int) -> subprocess.Popen:
    """Start it and wait until it listens.

    Args:
        namespace: the network namespace it serves; None is this machine's own network.
        host, port: where it listens.

    Raises:
        CarbonPilotError: it did not come up; the message has what it printed.
    """
    argv = [sys.executable, "-m", echo.__name__, "--host", host, "--port", str(port)]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    process = run_in(namespace, argv, **pipes) if namespace else subprocess.Popen(argv, **pipes)
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if not said.startswith("echo server on"):
        end_child(process)
        raise CarbonPilotError(
            f"The echo server on {host}:{port} did not start: {said or 'it ended without a word'}"
        )
    return process
