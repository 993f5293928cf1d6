"""How long the device itself takes: alone, at the camera's rate, and when it is hot."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ..interfaces import Executor
from .calls import Call, paced_calls, timed, warm_up
from .job import Job
from .ledger import Ledger
from .statistics import Estimate, bootstrapped, lognormal

REST = 3.0  # a call alone is followed by a rest of so many times its length
SLOWER = 1.02  # a slow-down below this is not told from none


async def measure_local(job: Job, executor: Executor) -> None:
    """Measure placement 0 and enter it.

    What counts is the time at the camera's rate: a processor that rests between frames has cold caches and a low
    clock, and is slower than one that never stops.
    """
    ledger, frames, effort, gap_s = job.ledger, job.frames, job.effort, job.gap_s
    await warm_up(executor, frames)
    job.tell("the device alone")
    first = await timed(executor, frames[0])
    alone = await paced_calls(executor, frames, effort.alone, (1.0 + REST) * first.wall_ms / 1000)
    job.tell("the device at the camera's rate")
    paced = await paced_calls(executor, frames, effort.calls, gap_s)
    times = job.with_overhead([call.wall_ms for call in paced])
    enter_service(ledger, "placements.0.service", times, f"at the camera's rate, {executor.provider}")
    by_itself, at_rate = _median(alone), _median(paced)
    ledger.notes.append(
        f"{executor.placement}: {at_rate.value:.4g} ms at the camera's rate "
        f"(median; {1000 / at_rate.value:.3g} frames a second at most), {by_itself.value:.4g} ms with rests between."
    )
    if at_rate.value > 1000 * gap_s:
        ledger.notes.append(
            f"{executor.placement} is slower than the camera ({at_rate.value:.4g} ms for a frame every "
            f"{1000 * gap_s:.4g} ms): frames will pile up there."
        )
    if ledger.scenario["device"].get("throttling") is not None:
        await _measure_heat(job, executor)


def enter_service(ledger: Ledger, key: str, times_ms: Sequence[float], method: str) -> None:
    """Enter a lognormal service time, unless the user gave one."""
    p50, p95 = lognormal(times_ms)
    if ledger.touched(key):
        ledger.notes.append(
            f"{key} was measured (p50 {p50.value:.4g}, p95 {p95.value:.4g} ms) and is another all the same (--assume)."
        )
        return
    ledger.replace(key, {"distribution": "lognormal"})
    what = f"lognormal with the mean and the p95 of {len(times_ms)} calls"
    ledger.measured(f"{key}.p50_ms", p50, f"{what}, {method}")
    ledger.measured(f"{key}.p95_ms", p95, f"{what}, {method}")


async def _measure_heat(job: Job, executor: Executor) -> None:
    """Work without a break and see whether calls become slower."""
    key, ledger, effort = "device.throttling.slowdown", job.ledger, job.effort
    if effort.heat_s <= 0:
        ledger.notes.append(
            "A quick calibration does not wait for the device to get hot: device.throttling is assumed."
        )
        return
    job.tell("the device back to back, for its heat")
    end_s, times = time.perf_counter() + effort.heat_s, []
    while time.perf_counter() < end_s:
        times += [call.wall_ms for call in await paced_calls(executor, job.frames, 5, 0.0)]
    fifth = max(len(times) // 5, 1)
    early, late = np.array(times[:fifth]), np.array(times[-fifth:])
    ratio = float(np.median(late) / np.median(early))
    rng = np.random.default_rng(0)
    draws = [
        np.median(rng.choice(late, late.size)) / np.median(rng.choice(early, early.size)) for _ in range(500)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    value = ratio if ratio > SLOWER and low > 1.0 else 1.0
    method = f"last fifth over first fifth of {len(times)} inferences back to back in {effort.heat_s:g} s"
    ledger.measured(key, Estimate(value, max(float(low), 1.0), max(float(high), 1.0), len(times)), method)


def _median(calls: Sequence[Call]) -> Estimate:
    return bootstrapped([c.wall_ms for c in calls], np.median)
