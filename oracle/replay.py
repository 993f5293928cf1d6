"""Play fixed plans on given tapes: the only way in which a plan gets its value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError
from ..envs.schema import Scenario
from ..envs.simulator import Simulator, site_for
from ..envs.tape import Part, Tape, draw_tape
from .result import allowed_misses

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Replay:
    """What plans gave, by request and episode.

    Attributes:
        carbon_mg: CO2 in the scenario's account (N, B), mg; 0 after an episode's end.
        latency_ms: latency (N, B), ms; infinite after an episode's end.
        valid: the episode was still going on (N, B).
        slo_ms, quantile: the objective.
    """

    carbon_mg: F64
    latency_ms: F64
    valid: npt.NDArray[np.bool_]
    slo_ms: float
    quantile: float

    @property
    def requests(self) -> I64:
        """Requests played (B,)."""
        return self.valid.sum(axis=0)

    @property
    def value_mg(self) -> F64:
        """CO2 per request (B,), mg."""
        return self.carbon_mg.sum(axis=0) / self.requests

    @property
    def misses(self) -> I64:
        """Requests over the SLO (B,)."""
        return (self.valid & (self.latency_ms > self.slo_ms)).sum(axis=0)

    @property
    def allowed(self) -> I64:
        """Misses that the SLO's quantile allows (B,)."""
        return allowed_misses(self.requests, self.quantile)

    @property
    def quantile_ms(self) -> F64:
        """The SLO's quantile of the latencies (B,), ms: the (allowed + 1)-th largest."""
        ordered = np.sort(self.latency_ms, axis=0)
        rank = self.requests - self.allowed - 1
        return np.take_along_axis(ordered, rank[None], axis=0)[0]


def tapes_for(
    scenario: Scenario, seeds: npt.ArrayLike, part: Part = "evaluation", traces_dir: str | Path | None = None
) -> Tape:
    """The tapes that a simulator of these seeds and this part plays."""
    folder = None if traces_dir is None else Path(traces_dir)
    return draw_tape(site_for(scenario), seeds, part, folder)


def columns_of(tape: Tape, columns: npt.NDArray) -> Tape:
    """The episodes of a tape with the given numbers, each as often as it is named."""
    return tape.of_columns(columns)


def start(scenario: Scenario, tape: Tape) -> Simulator:
    """A simulator at the first request of every episode of a tape."""
    simulator = Simulator(scenario, tape.words.shape[-1])
    simulator.reset_tape(tape)
    return simulator


def replay(scenario: Scenario, tape: Tape, plans: npt.ArrayLike) -> Replay:
    """Play plans (N, B) in a fresh simulator.

    Raises:
        InputError: the plans are of another length or number than the episodes.
    """
    plans = np.asarray(plans, dtype=np.int64)
    shape = (scenario.episode.requests, tape.words.shape[-1])
    if plans.shape != shape:
        raise InputError(
            f"A plan needs one placement per request and episode, {shape}, got {plans.shape}. "
            "Was it made for another scenario or number of episodes?"
        )
    simulator = start(scenario, tape)
    carbon_mg, latency_ms = np.zeros(shape), np.full(shape, np.inf)
    valid, running = np.zeros(shape, dtype=bool), np.ones(shape[1], dtype=bool)
    for n, placements in enumerate(plans):
        result = simulator.step(placements)
        carbon_mg[n, running] = result.outcome.carbon_mg[running]
        latency_ms[n, running] = result.outcome.latency_ms[running]
        valid[n] = running
        running = running & ~result.truncated
        if not running.any():
            break
    return Replay(carbon_mg, latency_ms, valid, scenario.slo.latency_ms, scenario.slo.quantile)
