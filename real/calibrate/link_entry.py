"""Enters what was measured of a link into the scenario, whatever form the base gave its source."""

from __future__ import annotations

import asyncio
from typing import Any

from ...envs.errors import InputError, unknown_name
from ...envs.schema import PhasedLink, Scenario, SwitchedLink
from ..probes.echo_probe import EchoProbe
from ..site_file import Prober
from .congestion import used_towards
from .job import Job
from .ledger import Ledger
from .link import LinkNumbers, measure_link
from .statistics import Estimate

LINK_NUMBERS = ("rtt_ms", "jitter_ms", "loss_pct", "rate_mbps")
MODELLED = ("bbr", "cubic")  # congestion controls that the simulator knows
PROBE_S = 3.0


def link_path(base: Scenario, name: str, condition: str | None, keep: bool) -> str:
    """Dotted key of the part of the scenario that a link's numbers go to.

    Raises:
        InputError: the link does not have the condition that was asked for.
    """
    source = base.links[name].source
    if condition is not None:
        if not isinstance(source, SwitchedLink):
            raise InputError(
                f"--condition belongs to links that switch between conditions; links.{name}.source is '{source.kind}'."
            )
        if condition not in source.conditions:
            raise unknown_name(f"condition of links.{name}", condition, source.conditions)
        return f"links.{name}.source.conditions.{condition}"
    if keep and not isinstance(source, PhasedLink):
        return f"links.{name}.measured"  # told only
    return f"links.{name}.source.phases.0"


def with_room(content: dict[str, Any], name: str, path: str) -> None:
    """Give a link's source the form that the measured numbers go to; they replace what stands there, or are missing."""
    source = content["links"][name]["source"]
    constant = source["kind"] == "phases" and len(source["phases"]) == 1
    if path.endswith(".phases.0") and not constant:
        nothing = {"rtt_ms": 0.0, "jitter_ms": 0.0, "loss_pct": 0.0, "rate_mbps": 1.0}
        content["links"][name]["source"] = {"kind": "phases", "phases": [nothing]}


async def calibrate_link(job: Job, name: str, path: str) -> None:
    """Measure a link and enter its numbers.

    Raises:
        InputError: it cannot be measured.
    """
    ledger, wanted = job.ledger, job.wanted
    if all(ledger.assumed(f"{path}.{number}") for number in LINK_NUMBERS):
        _jitter_share(job, name)
        return
    where = wanted.deployment.probes[name]
    if where.method == "connect":
        raise InputError(
            f"deployment.probes.{name} only connects, which tells neither loss nor rate: run an echo server there "
            "(method echo)"
        )
    probe = prober(where)
    try:
        found = await asyncio.to_thread(
            measure_link, probe, where.host, where.port, job.effort, lambda what: job.tell(f"{name}: {what}")
        )
    finally:
        probe.close()
    if path == f"links.{name}.measured":
        ledger.notes.append(f"{name} is now {_told(found)}; its source stays the base's (--keep-links).")
    else:
        _enter(ledger, path, found)
        _jitter_share(job, name)
    _congestion(job, name)


def prober(where: Prober) -> EchoProbe:
    """A probe that waits long enough for a retransmission or two."""
    return EchoProbe(where.host, where.port, timeout_s=PROBE_S, method="echo")


def _enter(ledger: Ledger, path: str, found: LinkNumbers) -> None:
    probes = f"{found.rtt_ms.count} echo probes, outliers drawn in"
    ledger.measured(f"{path}.rtt_ms", found.rtt_ms, f"mean of {probes}")
    ledger.measured(f"{path}.jitter_ms", found.jitter_ms, f"standard deviation of {probes}")
    per_cent = Estimate(100 * found.loss.value, 100 * found.loss.low, 100 * found.loss.high, found.loss.count)
    ledger.measured(
        f"{path}.loss_pct", per_cent, "segments of uploads sent again with a cause, Wilson's interval"
    )
    ledger.measured(f"{path}.rate_mbps", found.rate_mbps, found.rate_method)


def _jitter_share(job: Job, name: str) -> None:
    """Which jitter the simulated uploads see: the slowest state's, where a share of the round trip is most in ms."""
    link = job.ledger.scenario["links"][name]
    source = link["source"]
    states = source.get("phases") or [c for c in source.get("conditions", {}).values() if not c.get("outage")]
    slowest = max(states, key=lambda state: state["rtt_ms"], default={"rtt_ms": 0.0})
    if link["transfer"]["model"] == "tcp" and slowest["rtt_ms"] > 0:
        share = slowest["jitter_ms"] / slowest["rtt_ms"]
        how = "jitter_ms over rtt_ms" + (
            "" if len(states) == 1 else ", of the state with the longest round trip"
        )
        job.ledger.derived(f"links.{name}.transfer.jitter_share", share, how)


def _congestion(job: Job, name: str) -> None:
    """What frames travel with is what the kernel gives gRPC's connections, by its route or its default."""
    key, transfer = f"links.{name}.transfer.congestion_control", job.wanted.base.links[name].transfer
    servers = [job.deployment.servers[n].grpc for n, node in job.scenario.nodes.items() if node.link == name]
    if transfer.model != "tcp" or job.ledger.assumed(key) or not servers:
        return
    host, _, port = servers[0].rpartition(":")
    try:
        kernel = used_towards(host, int(port))
    except InputError as error:
        job.ledger.could_not([key], str(error))
        return
    if kernel not in MODELLED:
        reason = (
            f"the kernel uses '{kernel}' (net.ipv4.tcp_congestion_control); the simulator knows bbr and cubic"
        )
        job.ledger.could_not([key], reason)
        return
    if kernel != transfer.congestion_control:
        job.ledger.notes.append(
            f"{key} is '{kernel}', the kernel's, and not '{transfer.congestion_control}' as in the base."
        )
    job.ledger.replace(key, kernel)


def _told(found: LinkNumbers) -> str:
    return (
        f"{found.rtt_ms.value:.4g} +- {found.jitter_ms.value:.3g} ms, {100 * found.loss.value:.3g} % loss, "
        f"{found.rate_mbps.value:.4g} Mbit/s"
    )
