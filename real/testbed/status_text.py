"""The status of a test bed in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .profiles import Profile
from .shape import words


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Lines of `carbonpilot testbed status`."""
    if not status["running"]:
        yield "No test bed is running. Start one: carbonpilot testbed up"
        return
    yield f"The test bed runs since {status['started_utc']} ({status['state']})."
    for node, server in status["servers"].items():
        health = "ready" if server["ready"] else "NOT READY"
        echo = "answers" if server["echo_answers"] else "DOES NOT ANSWER"
        yield f"{node}: {health}, grpc {server['grpc']}, metrics {server['metrics']}"
        yield f"  echo server on port {server['echo_port']} {echo}"
        yield from _model_lines(server["models"])
    yield from _link_lines(status["link"])
    yield from _tenant_lines(status["tenants"])


def _model_lines(models: Mapping[str, Mapping[str, float | None]]) -> Iterator[str]:
    for name, model in sorted(models.items()):
        batch = f", mean batch {model['mean_batch']:.2f}" if model["mean_batch"] else ""
        yield (
            f"  {name}: {model['answered']:.0f} answered, {model['failed'] or 0:.0f} failed, "
            f"{model['waiting'] or 0:.0f} waiting{batch}"
        )


def _link_lines(link: Mapping[str, Any] | None) -> Iterator[str]:
    if link is None:
        yield "no link: everything is on loopback"
        return
    if not link["answers"]:
        yield f"link: DOES NOT ANSWER: {link['error']}"
        return
    yield f"link ({link['kind']}): {words(Profile(**link['profile']))}"
    if link.get("schedule"):
        played = link["schedule"]
        yield f"  plays step {played['step']} of {played['steps']}{', has ended' if played['ended'] else ''}"
    for way in ("up", "down"):
        counts = link.get(way) or {}
        yield f"  {way}: " + ", ".join(f"{value} {name}" for name, value in counts.items())


def _tenant_lines(tenants: Mapping[str, Any] | None) -> Iterator[str]:
    if tenants is None:
        yield "no tenants"
        return
    yield (
        f"tenants {'ask' if tenants['running'] else 'asked'} for {tenants['rate_per_s']:.1f} images a second of "
        f"{tenants['model']}: {tenants['sent']} sent, {tenants['answered']} answered, {tenants['failed']} failed, "
        f"{tenants['held_back']} held back, {100 * tenants['cpu_share']:.0f} % of a processor"
    )
