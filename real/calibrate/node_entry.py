"""Enters what was measured of a node: its configuration, its service times, what a batch costs, how far it is."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence

import numpy as np

from ...envs.errors import InputError
from ...envs.schema import Scenario
from ..interfaces import Executor, HeadAndTail
from ..probes.echo_probe import EchoProbe
from ..probes.failure import ProbeFailure
from .heads import enter_head, heads_at_work, tails_of
from .job import Job
from .ledger import Ledger
from .link_entry import prober
from .local import enter_service
from .remote import RemoteCall, batch_times, call_overhead, remote_calls
from .statistics import Estimate, bootstrapped, marginal_share
from .triton_server import ModelConfig, TritonQuestions


async def calibrate_node(job: Job, node: str, executors: Mapping[str, Executor]) -> None:
    """Measure a node and all placements on it; what fails is noted as missing.

    Raises:
        InputError: the server does not answer, or is configured otherwise than the base scenario says.
    """
    scenario, deployment = job.scenario, job.deployment
    mine = {i: p for i, p in enumerate(scenario.placements) if p.node == node}
    if not mine:
        return
    questions = TritonQuestions(deployment.servers[node], job.wanted.folder)
    try:
        remote = {i: deployment.remote[p.name] for i, p in mine.items()}
        configs = {i: await questions.config(r.model, r.version) for i, r in remote.items()}
        _enter_config(job.ledger, scenario, node, list(configs.values()))
        await _distance(job, node)
        shares = []
        for i, p in mine.items():
            try:
                alone_ms = await _service(job, i, questions, executors[p.name])
                if scenario.nodes[node].batching is not None:
                    shares.append(await _share(job, i, questions, executors[p.name], configs[i], alone_ms))
            except InputError as error:
                keys = [f"placements.{i}.service"]
                keys += [] if p.split is None else [f"placements.{i}.split.service"]
                job.ledger.could_not([key for key in keys if not job.ledger.touched(key)], str(error))
        _enter_shares(job.ledger, scenario, node, shares)
    finally:
        await questions.close()


def _enter_config(ledger: Ledger, scenario: Scenario, node: str, configs: list[ModelConfig]) -> None:
    """Batcher and instances, as the server is configured.

    Raises:
        InputError: the base says that the node batches and the server does not, or the other way round.
    """
    key = f"nodes.{node}"
    batches = any(c.queue_delay_ms is not None and c.max_batch > 1 for c in configs)
    if batches != (scenario.nodes[node].batching is not None):
        said = "joins requests to batches" if batches else "does not batch"
        raise InputError(
            f"{key}.batching: the server {said}, and the base scenario says otherwise. Change the base (and "
            "batched_energy_j of its placements), or the server's dynamic_batching."
        )
    method = "the server's model configuration"
    if batches:
        ledger.derived(f"{key}.batching.max_batch", max(c.max_batch for c in configs), method)
        ledger.replace(f"{key}.batching.max_batch", max(c.max_batch for c in configs))
        ledger.derived(
            f"{key}.batching.queue_delay_ms", max(c.queue_delay_ms or 0.0 for c in configs), method
        )
    instances = {c.instances for c in configs}
    if instances != {scenario.nodes[node].parallelism}:
        ledger.notes.append(
            f"{key}.parallelism is {scenario.nodes[node].parallelism} in the base, and the server's models have "
            f"{sorted(instances)} instances. Models that share one GPU serve one at a time all the same, so the base's "
            "number stays; give another one with --assume."
        )


async def _service(job: Job, index: int, questions: TritonQuestions, executor: Executor) -> float:
    """Measure and enter a placement's service time; returns its mean, ms."""
    placement, numbers = job.scenario.placements[index], job.ledger.scenario["nodes"]
    node, model = job.scenario.nodes[placement.node], job.deployment.remote[placement.name].model
    job.tell(f"{placement.name}: calls at the camera's rate")
    calls, shared = await remote_calls(executor, questions, model, job.frames, job.gap_s, job.effort)
    probe = prober(job.deployment.probes[node.link])
    try:
        job.tell(f"{placement.name}: small calls beside probes")
        overhead = await call_overhead(questions, model, probe, job.effort.paired)
    finally:
        probe.close()
    # Where nodes have tenants the simulator adds the batcher's delay itself, as a wait.
    waits = node.background is not None and node.batching is not None
    delay_ms = numbers[placement.node]["batching"]["queue_delay_ms"] if waits else 0.0
    more_ms = max(overhead.value - numbers[placement.node]["extra_rtt_ms"], 0.0) - delay_ms
    service = job.with_overhead([c.device_ms + c.server_ms + more_ms for c in calls])
    method = "server statistics + encoding + gRPC, without the network"
    enter_service(job.ledger, f"placements.{index}.service", service, method)
    if isinstance(executor, HeadAndTail):
        enter_head(job.ledger, index, executor, await _heads(job, placement.name, calls), job.frames[0])
    job.ledger.notes.append(_remark(job, placement.name, calls, overhead, shared, service))
    return float(np.mean(service))


async def _heads(job: Job, name: str, calls: list[RemoteCall]) -> Sequence[float]:
    """What the device takes for a split model's heads, ms; in the runtime, because the device is where that runs."""
    if not job.effort.at_work:
        return [c.head_ms for c in calls]
    return await heads_at_work(job, name, 1000 / float(np.mean([c.wall_ms for c in calls])))


def _remark(
    job: Job, name: str, calls: list[RemoteCall], overhead: Estimate, shared: int, service_ms: Sequence[float]
) -> str:
    device, server, wall = (
        float(np.mean([getattr(c, key) for c in calls])) for key in ("device_ms", "server_ms", "wall_ms")
    )
    head = float(np.mean([c.head_ms for c in calls]))
    runtime = float(np.mean(job.overhead_ms))
    text = (
        f"{name}: {np.mean(service_ms):.4g} ms of service = {server:.4g} at the server + {device:.3g} encoding and "
        f"decoding + {overhead.value:.3g} [{overhead.low:.3g}, {overhead.high:.3g}] gRPC + "
        f"{runtime:.3g} runtime; whole calls took {wall:.4g} ms on average, so the network took "
        f"{wall + runtime - head - float(np.mean(service_ms)):.4g} ms."
    )
    text += f" Before that the device computed the head for {head:.4g} ms." if head else ""
    return text + (f" {shared} calls met other tenants and were left out." if shared else "")


async def _share(
    job: Job,
    index: int,
    questions: TritonQuestions,
    executor: Executor,
    config: ModelConfig,
    alone_ms: float,
) -> Estimate:
    """What one more image of a batch adds, as a share of the placement's whole service time."""
    model = job.deployment.remote[job.scenario.placements[index].name].model
    frames = job.frames[: config.max_batch]
    together = await tails_of(executor, frames)
    sizes, times = await batch_times(
        together, questions, model, frames, config.max_batch, job.effort.bursts, job.tell
    )
    share = marginal_share(sizes, times)
    at_server = float(np.mean([t for b, t in zip(sizes, times, strict=True) if b == min(sizes)]))
    scale = at_server / alone_ms  # encoding and gRPC do not grow with the batch
    return Estimate(share.value * scale, share.low * scale, share.high * scale, share.count)


def _enter_shares(ledger: Ledger, scenario: Scenario, node: str, shares: list[Estimate]) -> None:
    key = f"nodes.{node}.batching.marginal_service_share"
    if scenario.nodes[node].batching is None:
        return
    if not shares:
        ledger.could_not([key], "no placement of this node could be measured in batches")
        return
    together = Estimate(
        float(np.mean([s.value for s in shares])),
        min(s.low for s in shares),
        max(s.high for s in shares),
        sum(s.count for s in shares),
    )
    ledger.measured(key, together, f"line through the times of batches of {len(shares)} models")


async def _distance(job: Job, node: str) -> None:
    """How much farther the node is than the end of its link's probe."""
    ledger, link = job.ledger, job.scenario.nodes[node].link
    key, where = f"nodes.{node}.extra_rtt_ms", job.deployment.probes[link]
    host, _, port = job.deployment.servers[node].grpc.rpartition(":")
    if where.host == host:
        ledger.derived(key, 0.0, "the link's probe ends at the same host")
        return
    job.tell(f"{node}: its distance beyond the probe")
    probe = prober(where)
    try:
        differences = await asyncio.to_thread(_differences, probe, host, int(port), job.effort.paired)
    except (OSError, InputError) as error:
        ledger.could_not([key], str(error))
        return
    finally:
        probe.close()
    found = bootstrapped(differences, np.median)
    positive = Estimate(max(found.value, 0.0), max(found.low, 0.0), max(found.high, 0.0), found.count)
    ledger.measured(
        key, positive, "connections to the server against probes of the link, median of differences"
    )


def _differences(probe: EchoProbe, host: str, port: int, count: int) -> list[float]:
    """Time of a new connection less that of a probe, ms; both take one round trip."""
    found = []
    for _ in range(count):
        start_s = time.perf_counter()
        with socket.create_connection((host, port), timeout=3.0):
            took_ms = (time.perf_counter() - start_s) * 1000
        try:
            found.append(took_ms - probe.exchange().rtt_ms)
        except ProbeFailure:
            continue
        time.sleep(0.05)
    if len(found) < 3:
        raise InputError(f"{len(found)} of {count} probes beside connections to {host}:{port} were answered")
    return found
