"""How long a server takes, apart from the network: from its own statistics, call by call.

The simulator's latency is wait for the link + bytes + round trip + recovery + wait for the node + service. A remote
call also encodes the frame, goes through gRPC on both sides and decodes the answer; none of these is network, and the
simulator has no term of its own for them. So they are part of the service time, which is what a call takes with an
infinitely good network:

    service = prepare + finish                   (the device's encoding and decoding, as the executor reports them)
            + small call - round trip            (gRPC and wake-ups: a call that carries nothing, against a probe)
            + the server's whole time            (its statistics: queue, input, compute, output)
            - the batcher's delay                (only where the simulator adds it itself, on nodes with tenants)

Of a split model all this is the tail's; the head is what the call took beside it on the device.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...envs.errors import InputError
from ..interfaces import Executor, ExecutorError, Frame
from ..probes.echo_probe import EchoProbe
from ..probes.failure import ProbeFailure
from .calls import Call, paced_calls, timed, warm_up
from .effort import Effort
from .statistics import Estimate, bootstrapped
from .triton_server import Counters, TritonQuestions

LEAST_CALLS = 10
MORE_BURSTS = (
    60  # where none was joined so far: a fast model is often done before the next frame is there (assumed)
)
COUNTED_S = (0.002, 0.01, 0.05, 0.2)  # waits until a server has counted what it answered


@dataclass(frozen=True)
class RemoteCall:
    """One call with what the server says of it.

    Attributes:
        wall_ms: as the runtime sees it.
        device_ms: encoding and decoding on the device.
        server_ms: at the server, its queue included.
        payload_kb: sent.
        head_ms: before all of it on the device: a split model's head, 0 of whole models.
    """

    wall_ms: float
    device_ms: float
    server_ms: float
    payload_kb: float
    head_ms: float = 0.0


async def remote_calls(
    executor: Executor,
    questions: TritonQuestions,
    model: str,
    frames: Sequence[Frame],
    gap_s: float,
    effort: Effort,
) -> tuple[list[RemoteCall], int]:
    """Call a model at the camera's rate and ask the server after each call what it took.

    Returns:
        the calls, and how many were left out because somebody else called the model at the same time.

    Raises:
        InputError: too few calls were ours alone, or calls fail.
    """
    await warm_up(executor, frames)
    before = await questions.counters(model)
    found: list[RemoteCall] = []
    shared = 0

    async def ask(call: Call) -> None:
        nonlocal before, shared
        now = await _counted(questions, model, before, 1)
        took, before = now.since(before), now
        if took.calls != 1:
            shared += 1
            return
        answer = call.answer
        device_ms = answer.prepare_ms + answer.finish_ms
        # With the hand-over to the device's worker and back, as for the device's own model.
        head_ms = call.wall_ms - device_ms - answer.execute_ms if answer.head_ms > 0.0 else 0.0
        found.append(RemoteCall(call.wall_ms, device_ms, took.total_ms, answer.sent_bytes / 1000, head_ms))

    await paced_calls(executor, frames, effort.calls, gap_s, ask)
    if len(found) < LEAST_CALLS:
        raise InputError(
            f"only {len(found)} of {effort.calls} calls of '{model}' were alone at the server, so its time for one "
            "call is not known: calibrate while the other tenants are quiet"
        )
    return found, shared


async def call_overhead(
    questions: TritonQuestions, model: str, probe: EchoProbe, count: int, gap_s: float = 0.1
) -> Estimate:
    """What a call takes beyond a round trip when it carries nothing, ms.

    A small call and a probe start together, so both meet the same delay of the link; the median of the differences
    leaves lost packets out.

    Raises:
        InputError: hardly any pair was answered.
    """
    loop = asyncio.get_running_loop()
    differences = []
    for _ in range(count + 1):
        probing = loop.run_in_executor(None, _probe, probe)
        start_s = time.perf_counter()
        await questions.ready(model)
        took_ms = (time.perf_counter() - start_s) * 1000
        rtt_ms = await probing
        if rtt_ms is not None:
            differences.append(took_ms - rtt_ms)
        await asyncio.sleep(gap_s)
    if len(differences) < max(count // 2, 3):
        raise InputError(f"{len(differences)} of {count} probes beside small calls were answered")
    return bootstrapped(differences[1:], np.median)


def _probe(probe: EchoProbe) -> float | None:
    try:
        answer = probe.exchange()
    except ProbeFailure:
        return None
    return None if answer.segments_retransmitted else answer.rtt_ms


async def batch_times(
    executor: Executor,
    questions: TritonQuestions,
    model: str,
    frames: Sequence[Frame],
    max_batch: int,
    bursts: int,
    tell: Callable[[str], None],
) -> tuple[list[int], list[float]]:
    """Send frames together, so that the server's batcher joins them.

    Returns:
        sizes of batches that it formed, and the mean time of each batch of that size in its burst, ms.

    Raises:
        InputError: the server never formed a batch of more than one.
    """
    found: list[tuple[int, float]] = []
    wanted = sorted({1, 2, max_batch // 2, max_batch} - {0})
    for size in wanted:
        tell(f"bursts of {size} at {model}")
        for _ in range(bursts):
            found += await _burst(executor, questions, model, frames, size)
    more = MORE_BURSTS if max_batch > 1 else 0
    while more and len({batch for batch, _ in found}) < 2:
        found += await _burst(executor, questions, model, frames, max_batch)
        more -= 1
    sizes, times = [batch for batch, _ in found], [ms for _, ms in found]
    if len(set(sizes)) < 2:
        raise InputError(
            f"'{model}' never joined requests to a batch, though {max_batch} came together: its time in a batch is not "
            "known. Is dynamic_batching in its configuration, with a delay of a millisecond or more?"
        )
    return sizes, times


async def _burst(
    executor: Executor, questions: TritonQuestions, model: str, frames: Sequence[Frame], size: int
) -> list[tuple[int, float]]:
    """Batches that the server formed of frames sent together: size, and mean time of one of that size, ms."""
    before = await questions.counters(model)
    calls = (timed(executor, frames[i % len(frames)]) for i in range(size))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    _check(answers, model)
    now = await _counted(questions, model, before, size)
    return [(batch, ms / count) for batch, (count, ms) in now.since(before).batches.items()]


async def _counted(questions: TritonQuestions, model: str, before: Counters, calls: int) -> Counters:
    """The statistics once so many calls are in them: a server may answer first and count then."""
    for wait_s in COUNTED_S:
        now = await questions.counters(model)
        if now.calls >= before.calls + calls:
            return now
        await asyncio.sleep(wait_s)
    return await questions.counters(model)


def _check(answers: Sequence[Call | BaseException], model: str) -> None:
    for answer in answers:
        if isinstance(answer, ExecutorError):
            raise InputError(f"'{model}' failed when several frames came together: {answer}") from answer
        if isinstance(answer, BaseException):
            raise answer
