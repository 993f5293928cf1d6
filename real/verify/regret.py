"""What the run's placements cost beyond the best plan in hindsight, on the recorded tape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.schema import Scenario
from ...envs.tape import Tape
from .replay import Played, play
from .tape_of_log import RecordedTape

F64 = npt.NDArray[np.float64]
# Plans (N, B) for the episodes of a tape with full knowledge of it. The command line hands one in, because this room
# does not know the oracle's.
Hindsight = Callable[[Scenario, Tape], npt.NDArray[np.int64]]
DRAWS = 8  # of the noise: hindsight plans each anew, which takes seconds for a thousand requests


@dataclass(frozen=True)
class Regret:
    """Carbon per request in the scenario's account, mg, by draw of the noise (B,), on the same tapes.

    Attributes:
        taken_mg, hindsight_mg, local_mg: of the run's placements, of the hindsight plan, and of the device alone.
        misses: shares of requests over the SLO of the three, by the same names.
    """

    taken_mg: F64
    hindsight_mg: F64
    local_mg: F64
    misses: dict[str, float]

    @property
    def regret_mg(self) -> F64:
        """What could have been saved per request (B,), mg; below 0 where the run missed more than the SLO allows."""
        return self.taken_mg - self.hindsight_mg


def regret(stretches: list[RecordedTape], hindsight: Hindsight) -> Regret:
    """Plan every stretch of a run in hindsight and compare."""
    plays: dict[str, list[Played]] = {"taken": [], "hindsight": [], "local": []}
    for recorded in stretches:
        tape = first_draws(recorded.tape, DRAWS)
        plans = {
            "taken": recorded.actions,
            "hindsight": hindsight(recorded.scenario, tape),
            "local": np.zeros_like(recorded.actions),
        }
        for name, plan in plans.items():
            plays[name].append(play(recorded.scenario, tape, plan))
    slo_ms = stretches[0].scenario.slo.latency_ms
    carbon = {n: np.concatenate([p.account_mg for p in parts]).mean(axis=0) for n, parts in plays.items()}
    missed = {
        n: float(np.mean(np.concatenate([p.latency_ms for p in parts]) > slo_ms))
        for n, parts in plays.items()
    }
    return Regret(carbon["taken"], carbon["hindsight"], carbon["local"], missed)


def first_draws(tape: Tape, draws: int) -> Tape:
    """The first episodes of a tape."""
    return tape.of_columns(slice(draws))
