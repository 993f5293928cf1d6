"""How a running test bed is: servers, models, echo servers, link, tenants."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError
from ..probes.failure import ProbeFailure
from ..probes.triton_counters import parse_metrics
from ..probes.triton_http import HttpPage
from .link import LinkControl
from .namespaces import inside
from .state import BedState, ServerState, alive, tenants_of
from .tenants import FILE, read_report

_TIMEOUT_S = 1.0


def bed_status(folder: Path, state: BedState) -> dict[str, Any]:
    """Everything that `carbonpilot testbed status --json` says.

    Returns:
        ``servers`` by node with addresses, health and counters, ``link``, ``tenants``, ``healthy`` for all together.
    """
    servers = {node: _server(server) for node, server in state.servers.items()}
    link = _link(state)
    healthy = all(s["ready"] and s["echo_answers"] for s in servers.values())
    return {
        "schema": "carbonpilot/testbed-status/1",
        "running": True,
        "healthy": healthy and (link is None or link["answers"]),
        "started_utc": state.started_utc,
        "state": str(folder),
        "device_namespace": state.device,
        "servers": servers,
        "link": link,
        "tenants": _tenants(folder),
    }


def _server(server: ServerState) -> dict[str, Any]:
    """Asked from inside its own namespace, so that an outage of the link does not make it look dead."""
    host = "127.0.0.1"
    with inside(server.namespace) if server.namespace else contextlib.nullcontext():
        ready = _get(f"http://{host}:{_port(server.http)}/v2/health/ready") is not None
        page = _get(f"http://{host}:{_port(server.metrics.removesuffix('/metrics'))}/metrics")
        echoes = _echoes(host, server.echo_port)
    return {
        **server.model_dump(exclude={"address"}),
        "ready": ready,
        "echo_answers": echoes,
        "models": _models(page),
    }


def _models(page: bytes | None) -> dict[str, dict[str, float | None]]:
    if page is None:
        return {}
    with contextlib.suppress(ProbeFailure):
        return {
            name: {
                "answered": model.success,
                "failed": model.failure,
                "waiting": model.pending,
                "batches": model.batches,
                "mean_batch": model.images / model.batches if model.images and model.batches else None,
            }
            for name, model in parse_metrics(page.decode("utf-8", "replace")).models.items()
        }
    return {}


def _get(url: str) -> bytes | None:
    page = HttpPage(url, _TIMEOUT_S)
    with contextlib.closing(page), contextlib.suppress(ProbeFailure):
        return page.get()
    return None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _echoes(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), _TIMEOUT_S) as s:
        s.sendall(b"status")
        return s.recv(16) == b"status"
    return False


def _link(state: BedState) -> dict[str, Any] | None:
    if state.link is None:
        return None
    try:
        return {"answers": True, **LinkControl(state.link).counters()}
    except CarbonPilotError as error:
        return {"answers": False, "error": str(error)}


def _tenants(folder: Path) -> dict[str, Any] | None:
    report = read_report(folder / FILE)
    if not report:
        return None
    who = tenants_of(folder)
    return {"running": who is not None and alive(who), **report}
