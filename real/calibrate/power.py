"""What the device draws at rest, and what one inference adds, where a meter is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ...envs.errors import InputError
from ..interfaces import Executor, ExecutorError, HeadAndTail
from ..meters.jetson_rails import JetsonRails
from ..meters.meter import Meter, MeterError
from ..meters.rapl import Rapl
from ..meters.sampler import SamplerThread
from ..meters.windows import WindowIntegrator
from .calls import TIMEOUT_S, paced_calls
from .job import Job
from .statistics import Estimate, bootstrapped

RATE_HZ = 20.0
MAX_GAP_S = 0.5
PARTS = 10  # an active window is cut into so many, whose spread gives the interval
KEYS = ("device.idle_power_w", "placements.0.active_energy_j")


def device_meter(kinds: Sequence[str], root: Path | str = "/") -> Meter | None:
    """The first of the site's meters that watches the device; None where none does.

    Raises:
        MeterError: the one that the deployment names cannot be read.
    """
    for kind in kinds:
        if kind == "jetson-rails":
            return JetsonRails(root)
        if kind == "rapl":
            return Rapl(root)
    return None


async def measure_energy(
    job: Job, meter: Meter, executor: Executor, heads: Mapping[int, HeadAndTail] | None = None
) -> None:
    """Measure idle power and the energy of an inference above it, and of each split model's head; enter all.

    Args:
        job: takes them.
        meter: of the device.
        executor: of the device's own model.
        heads: split placements by number.

    Raises:
        MeterError: the meter is silent or has gaps.
    """
    integrator = WindowIntegrator(meter.name, MAX_GAP_S)
    with SamplerThread(meter, RATE_HZ) as sampler:
        await _idle(job, meter, sampler, integrator)

        async def whole() -> int:
            return len(await paced_calls(executor, job.frames, 2, 0.0))

        await _at_work(job, meter, sampler, integrator, whole, executor.placement, KEYS[1])
        for index, split in (heads or {}).items():

            async def head(split: HeadAndTail = split) -> int:
                frames = job.frames[:2]
                try:
                    for frame in frames:
                        await split.head(frame, TIMEOUT_S)
                except ExecutorError as error:
                    raise InputError(f"The head of {split.placement} fails: {error}") from error
                return len(frames)

            await _at_work(
                job, meter, sampler, integrator, head, f"the head of {split.placement}", head_key(index)
            )


def head_key(index: int) -> str:
    """Dotted key of the energy of a split placement's head."""
    return f"placements.{index}.split.active_energy_j"


async def _idle(job: Job, meter: Meter, sampler: SamplerThread, integrator: WindowIntegrator) -> None:
    effort = job.effort
    job.tell(f"the device at rest, by {meter.name}")
    start_s = time.monotonic()
    await asyncio.sleep(effort.idle_s)
    end_s = time.monotonic()
    await asyncio.sleep(2 / RATE_HZ)
    sampler.take_into(integrator)
    idle = integrator.measure_idle(start_s + 1 / RATE_HZ, end_s)
    job.ledger.measured(
        KEYS[0],
        Estimate(idle.power_w, idle.low_w, idle.high_w, PARTS),
        f"{meter.name} ({meter.scope.value}) over {effort.idle_s:g} s with nothing running; low and high are tenths",
    )


async def _at_work(
    job: Job,
    meter: Meter,
    sampler: SamplerThread,
    integrator: WindowIntegrator,
    work: Callable[[], Awaitable[int]],
    what: str,
    key: str,
) -> None:
    """Measure the energy of what ``work`` does some of, and enter it.

    Raises:
        MeterError: it is none.
    """
    job.tell(f"{what} at work, by {meter.name}")
    joules = []
    for _ in range(PARTS):
        start_s, calls = time.monotonic(), 0
        while time.monotonic() - start_s < job.effort.active_s / PARTS:
            calls += await work()
        end_s = time.monotonic()
        await asyncio.sleep(2 / RATE_HZ)
        sampler.take_into(integrator)
        joules.append(integrator.account(start_s, end_s).net_j / calls)
    energy = bootstrapped(joules, lambda values, axis: values.mean(axis=axis))
    if energy.value <= 0:
        raise MeterError(
            f"{meter.name} sees no more energy at work ({energy.value:.3g} J an inference above idle) than at rest: "
            "something else was running during the rest. Calibrate while the device is quiet."
        )
    method = f"{meter.name} ({meter.scope.value}), inferences back to back, idle subtracted"
    job.ledger.measured(key, energy, method)
