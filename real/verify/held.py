"""Whether a run kept its objective, and whether the device alone, or hindsight on the recorded tape, could have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...envs.schema import LOCAL, Scenario
from ...envs.service import mean_ms, service_p95_ms
from ..log_records import FrameRecord
from ..site_file import SiteFile
from .conditions import conditions
from .regret import DRAWS, Hindsight
from .replay import play
from .run_log import RunLog, read_runs
from .served import Served
from .tape_of_log import tape_of_log
from .world import world_between

F64 = npt.NDArray[np.float64]

LEAST_TIMES = 20  # measured service times of the device below which those of other runs are taken as well
LOCAL_DRAWS = 200  # of the service times of frames that the device did not compute
NORMAL_95 = 1.6449  # 95th percentile of the standard normal distribution


@dataclass(frozen=True)
class Kept:
    """One run against its objective; shares are of all frames, one without a result is over the objective.

    Attributes:
        frames: how many were issued.
        allowed: share that may be over the objective.
        over: share that was.
        p95_ms: of the latency; infinite where more than 5 % have no result.
        local_over: share that the device alone would have had over, by its own service times: median of the draws.
        hindsight_over: share that the plan with full knowledge of the recorded tape has over, median of the draws of
            its noise; None where nobody planned.
        local_times: "this run", "all runs" or "calibrated": where the device's service times come from.
        executed, reasons, fallbacks: frames by where they were executed, the shield's reason, and why another placement
            was tried.
    """

    frames: int
    allowed: float
    over: float
    p95_ms: float
    local_over: float
    hindsight_over: float | None
    local_times: str
    executed: dict[str, int]
    reasons: dict[str, int]
    fallbacks: dict[str, int]

    @property
    def held(self) -> bool:
        """Whether the run kept its objective."""
        return self.over <= self.allowed

    @property
    def possible(self) -> bool:
        """Whether the device alone or hindsight could have."""
        return self.local_over <= self.allowed or (
            self.hindsight_over is not None and self.hindsight_over <= self.allowed
        )


def local_times_ms(frames: Sequence[FrameRecord], placement: str) -> dict[int, float]:
    """What the device itself took for each frame that it computed to the end, without waiting: position -> ms."""
    return {
        n: call.ended_ms - call.started_ms - call.queued_ms
        for n, frame in enumerate(frames)
        for call in frame.attempts
        if call.placement == placement and call.error is None
    }


def device_alone(
    issued_ms: F64, own_ms: dict[int, float], pool_ms: F64, slo_ms: float, rng: np.random.Generator
) -> float:
    """Share of frames over the objective if the device had computed all of them, one after the other.

    Args:
        issued_ms: when they were there (N,), ascending.
        own_ms: measured service time of frames that it did compute, by position.
        pool_ms: measured times that the others' are drawn from.
        slo_ms: the objective.
        rng: draws them.
    """
    service = rng.choice(pool_ms, (len(issued_ms), LOCAL_DRAWS))
    for n, ms in own_ms.items():
        service[n] = ms
    free, over = np.zeros(LOCAL_DRAWS), np.zeros(LOCAL_DRAWS)
    for issued, took in zip(issued_ms, service, strict=True):
        free = np.maximum(free, issued) + took
        over += free - issued > slo_ms
    return float(np.median(over) / len(issued_ms))


def calibrated_times_ms(scenario: Scenario, rng: np.random.Generator) -> F64:
    """Draws of the device's service time as the site file has it; lognormal, also where it is not."""
    service = next(p for p in scenario.placements if p.node == LOCAL).service
    spread = np.log(service_p95_ms(service) / mean_ms(service)) / NORMAL_95
    return mean_ms(service) * np.exp(max(spread, 0.0) * rng.standard_normal(1000))


def hindsight_over(run: RunLog, scenario: Scenario, hindsight: Hindsight, seed: int, where: str) -> float:
    """Share of frames over the objective under a plan that knows the recorded tape; median of the draws of its noise.

    Unlike `verify`, which compares calls, this counts from when each frame was there, and has the unanswered ones too.
    """
    frames, count = run.frames, len(run.frames)
    issued = np.array([f.issued_ms for f in frames])
    payload, unknown = np.array([f.payload_kb for f in frames]), np.full(count, np.nan)
    nobody, first, none = np.zeros(count, np.int64), np.zeros(count, bool), np.zeros(count)
    every = Served(
        np.arange(count), nobody, issued, unknown, payload, none, none, unknown, unknown, first, 0, 0
    )
    world = world_between(run.worlds, float(issued[0]), float(issued[-1]) + 1.0, where)
    recorded = tape_of_log(scenario, every, world, conditions(world), DRAWS, (seed,), where)
    plan = hindsight(recorded.scenario, recorded.tape)
    over = play(recorded.scenario, recorded.tape, plan).latency_ms > scenario.slo.latency_ms
    return float(np.median(over.mean(axis=0)))


def kept(
    log: str | Path,
    site: SiteFile,
    hindsight: Hindsight | None,
    others_ms: Sequence[float] = (),
    seed: int = 0,
) -> Kept:
    """Judge the run in a log.

    Args:
        log: file or folder, of one run.
        site: the site file that it used.
        hindsight: plans the recorded tape; None: only the device alone is compared with.
        others_ms: measured times of the device in other runs of the same session.
        seed: of the draws.

    Raises:
        InputError: no log, a broken line, or another site's.
    """
    runs = read_runs(log, site)
    frames = [frame for run in runs for frame in run.frames]
    scenario, rng = site.scenario, np.random.default_rng(seed)
    slo_ms = scenario.slo.latency_ms
    latency = np.array([np.inf if f.latency_ms is None else f.latency_ms for f in frames])
    own = local_times_ms(frames, next(p.name for p in scenario.placements if p.node == LOCAL))
    if len(own) >= LEAST_TIMES:
        pool, source = np.array(list(own.values())), "this run"
    elif len(own) + len(others_ms) >= LEAST_TIMES:
        pool, source = np.array([*own.values(), *others_ms]), "all runs"
    else:
        pool, source = calibrated_times_ms(scenario, rng), "calibrated"
    issued = np.array([f.issued_ms for f in frames])
    planned = None
    if hindsight is not None:
        shares = [hindsight_over(run, scenario, hindsight, seed, str(log)) for run in runs]
        planned = float(np.average(shares, weights=[len(run.frames) for run in runs]))
    return Kept(
        frames=len(frames),
        allowed=round(1.0 - scenario.slo.quantile, 9),  # 15 of 300 are allowed, whatever binary says of 0.95
        over=float(np.mean(latency > slo_ms)),
        p95_ms=float(np.quantile(latency, 0.95, method="higher")),
        local_over=device_alone(issued, own, pool, slo_ms, rng),
        hindsight_over=planned,
        local_times=source,
        executed=dict(Counter(f.executed or "no result" for f in frames)),
        reasons=dict(Counter(f.reason for f in frames)),
        fallbacks=dict(Counter(f.fallback for f in frames if f.fallback)),
    )
