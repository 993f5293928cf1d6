"""What the device draws at rest, and what one inference adds, where a meter is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from ..interfaces import Executor
from ..meters.jetson_rails import JetsonRails
from ..meters.meter import Meter, MeterError
from ..meters.rapl import Rapl
from ..meters.sampler import SamplerThread
from ..meters.windows import WindowIntegrator
from .calls import paced_calls
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


async def measure_energy(job: Job, meter: Meter, executor: Executor) -> None:
    """Measure idle power and the energy of an inference above it, and enter both.

    Raises:
        MeterError: the meter is silent or has gaps.
    """
    ledger, effort, tell = job.ledger, job.effort, job.tell
    integrator = WindowIntegrator(meter.name, MAX_GAP_S)
    with SamplerThread(meter, RATE_HZ) as sampler:
        tell(f"the device at rest, by {meter.name}")
        start_s = time.monotonic()
        await asyncio.sleep(effort.idle_s)
        end_s = time.monotonic()
        await asyncio.sleep(2 / RATE_HZ)
        sampler.take_into(integrator)
        idle = integrator.measure_idle(start_s + 1 / RATE_HZ, end_s)
        tell(f"the device at work, by {meter.name}")
        joules = []
        for _ in range(PARTS):
            start_s, calls = time.monotonic(), 0
            while time.monotonic() - start_s < effort.active_s / PARTS:
                calls += len(await paced_calls(executor, job.frames, 2, 0.0))
            end_s = time.monotonic()
            await asyncio.sleep(2 / RATE_HZ)
            sampler.take_into(integrator)
            joules.append(integrator.account(start_s, end_s).net_j / calls)
    ledger.measured(
        KEYS[0],
        Estimate(idle.power_w, idle.low_w, idle.high_w, PARTS),
        f"{meter.name} ({meter.scope.value}) over {effort.idle_s:g} s with nothing running; low and high are tenths",
    )
    energy = bootstrapped(joules, lambda values, axis: values.mean(axis=axis))
    if energy.value <= 0:
        raise MeterError(
            f"{meter.name} sees no more energy at work ({energy.value:.3g} J an inference above idle) than at rest: "
            "something else was running during the rest. Calibrate while the device is quiet."
        )
    ledger.measured(
        KEYS[1], energy, f"{meter.name} ({meter.scope.value}), inferences back to back, idle subtracted"
    )
