"""Every plan of a tiny episode, played in the real simulator: the witness of all other oracles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from ..envs.tape import Tape
from .replay import Replay, columns_of, replay

MOST_PLANS = 1024  # of an episode that is solved by trying everything


def plan_count(scenario: Scenario) -> int:
    """How many plans an episode has."""
    return len(scenario.placements) ** scenario.episode.requests


def every_plan(scenario: Scenario) -> npt.NDArray[np.int64]:
    """All plans (N, P^N), in lexicographic order."""
    placements, requests = len(scenario.placements), scenario.episode.requests
    numbers = np.arange(placements**requests)
    return np.stack([numbers // placements ** (requests - 1 - n) % placements for n in range(requests)])


def play_every_plan(scenario: Scenario, tape: Tape, episode: int) -> tuple[npt.NDArray[np.int64], Replay]:
    """All plans (N, P^N) of one episode and what they give."""
    plans = every_plan(scenario)
    return plans, replay(scenario, columns_of(tape, np.full(plans.shape[1], episode)), plans)
