"""How near each tape comes to breaking the objective, as whoever plays the lessons plays it.

What is asked for is a constraint on episodes: few may miss more often than the budget allows. Where a tape is played
with a handful of misses, one more changes nothing; where it ends near the budget, each one may decide. A smooth count
of broken episodes, the sum of s((spent - at) / width) over tapes, has that for its derivative: s', a bump around `at`.
What is used here rises and falls apart, s((spent - at) / width) s((lost - spent) / width), so that tapes somewhat
beyond the budget are still fought for, and those beyond rescue are not. The tape tells the teacher; the agent, who
cannot see how its tape will end, learns the price that is right on average in states that look alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Tape
from .cost_to_go import Act
from .settings import DangerConfig

F64 = npt.NDArray[np.float64]


class Spent(NamedTuple):
    """What playing tapes to their end came to.

    Attributes:
        share: misses of each tape over those that it may have (B,).
        played: requests that were simulated.
    """

    share: F64
    played: int


def budget_spent(scenario: Scenario, tape: Tape, act: Act) -> Spent:
    """Play tapes to their end and count their misses.

    Args:
        scenario: the site.
        tape: training tapes (B).
        act: places the requests.
    """
    batch = tape.words.shape[-1]
    simulator = Simulator(scenario, batch)
    observation = simulator.reset_tape(tape)
    missed, played = np.zeros(batch), np.zeros(batch)
    running = np.ones(batch, dtype=bool)
    for n in range(scenario.episode.requests):
        result = simulator.step(act(n, observation, simulator.masks()))
        missed += running & result.outcome.missed
        played += running
        observation, running = result.observation, running & ~result.truncated
        if not running.any():
            break
    return Spent(missed / ((1.0 - scenario.slo.quantile) * played), int(played.sum()))


def danger_share(spent: F64, settings: DangerConfig) -> F64:
    """What a miss costs on each tape, as a share of its price where it decides (B,).

    Args:
        spent: share of the budget that the tape ends with (B,).
        settings: where danger begins and ends.
    """
    near = expit((spent - settings.at) / settings.width)
    not_lost = expit((settings.lost - spent) / settings.width)
    return settings.least + near * not_lost
