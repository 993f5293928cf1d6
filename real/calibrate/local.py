"""How long the device itself takes: alone, at the camera's rate, and when it is hot."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from ..interfaces import Executor
from .calls import paced_calls, timed, warm_up
from .job import Job
from .ledger import Ledger
from .rehearsal import device_times_ms
from .statistics import Estimate, bootstrapped, lognormal

REST = 3.0  # a call alone is followed by a rest of so many times its length
SLOWER = 1.02  # a slow-down below this is not told from none
TURNS = 3
NEIGHBOURS = 10  # calls of the same phase of a machine; intervals are drawn from so many together
FULL_SPEED = 0.95  # assumed: share of its own pace at which a device that is slower than the camera is driven


class DeviceTurns:
    """The device's model at the camera's rate, in turns spread over the whole calibration.

    A processor has slow phases of seconds to minutes (its host, its heat, other work), and in one turn it may meet one.
    What counts is the time at the camera's rate: a processor that rests between frames has cold caches and a low clock,
    and is slower than one that never stops.
    """

    def __init__(self, job: Job, executor: Executor) -> None:
        """Measure nothing yet.

        Args:
            job: its effort says whether frames go through the runtime.
            executor: of placement 0, started.
        """
        self._job, self._executor = job, executor
        self._alone: list[float] = []
        self._times: list[float] = []

    async def take(self) -> None:
        """One turn.

        Raises:
            InputError: the device's model fails, or the runtime does not run.
        """
        job, effort = self._job, self._job.effort
        if not self._alone:
            await self._time_alone()
        job.tell("the device at the camera's rate")
        if effort.at_work:
            rate_per_s = min(1 / job.gap_s if job.gap_s > 0 else math.inf, FULL_SPEED / self._alone_s)
            records = await job.rehearse(effort.at_work, rate_per_s)
            self._times += device_times_ms(records).tolist()
            return
        calls = await paced_calls(self._executor, job.frames, math.ceil(effort.calls / TURNS), job.gap_s)
        self._times += job.with_overhead([call.wall_ms for call in calls])

    def enter(self) -> None:
        """Enter what the turns gave, and say what to know of it."""
        ledger, gap_s, name = self._job.ledger, self._job.gap_s, self._executor.placement
        how = "in the runtime" if self._job.effort.at_work else "called alone"
        enter_service(
            ledger,
            "placements.0.service",
            self._times,
            f"at the camera's rate, {how}, {self._executor.provider}",
        )
        by_itself, at_rate = bootstrapped(self._alone, np.median), bootstrapped(self._times, np.median)
        ledger.notes.append(
            f"{name}: {at_rate.value:.4g} ms at the camera's rate (median; {1000 / at_rate.value:.3g} frames a second "
            f"at most), {by_itself.value:.4g} ms with rests between."
        )
        if at_rate.value > 1000 * gap_s:
            ledger.notes.append(
                f"{name} is slower than the camera ({at_rate.value:.4g} ms for a frame every {1000 * gap_s:.4g} ms): "
                "frames will pile up there."
            )

    @property
    def _alone_s(self) -> float:
        return float(np.median(self._alone)) / 1000

    async def _time_alone(self) -> None:
        job, executor = self._job, self._executor
        await warm_up(executor, job.frames)
        job.tell("the device alone")
        first = await timed(executor, job.frames[0])
        calls = await paced_calls(executor, job.frames, job.effort.alone, (1.0 + REST) * first.wall_ms / 1000)
        self._alone = [call.wall_ms for call in calls]


def enter_service(ledger: Ledger, key: str, times_ms: Sequence[float], method: str) -> None:
    """Enter a lognormal service time, unless the user gave one."""
    p50, p95 = lognormal(times_ms, NEIGHBOURS)
    if ledger.touched(key):
        ledger.notes.append(
            f"{key} was measured (p50 {p50.value:.4g}, p95 {p95.value:.4g} ms) and is another all the same (--assume)."
        )
        return
    ledger.replace(key, {"distribution": "lognormal"})
    what = f"lognormal with the mean and the p95 of {len(times_ms)} calls"
    ledger.measured(f"{key}.p50_ms", p50, f"{what}, {method}")
    ledger.measured(f"{key}.p95_ms", p95, f"{what}, {method}")


async def measure_heat(job: Job, executor: Executor) -> None:
    """Work without a break and see whether calls become slower; enter the slow-down where the base has one."""
    if job.ledger.scenario["device"].get("throttling") is None:
        return
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
