"""The last choice: the best settings, and the untuned ones, trained with several seeds and scored on fresh tapes.

The winner of a search is the luckiest of its trials on the search's tapes and with the search's seed, so neither tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ...envs.errors import CarbonPilotError
from ..tune_evaluate import Scores
from ..tune_objective import Objective
from .pool import Pool, failed
from .worker import Done, Job

UNTUNED = "untuned"


@dataclass(frozen=True)
class Finalist:
    """Settings with their scores on fresh tapes.

    Attributes:
        name: "untuned", or the trial.
        changes: what they change.
        scores: of all seeds and tapes together (1, S x T).
    """

    name: str
    changes: Mapping[str, Any]
    scores: Scores


def play_finals(
    jobs: Sequence[Job],
    pool: Pool,
    report: Callable[[int], None],
    stopping: Callable[[], bool] = lambda: False,
) -> dict[Any, Scores]:
    """Train and score; returns each job's scores by its key.

    Raises:
        CarbonPilotError: asked to stop, or a training failed.
    """
    waiting, found, asked = list(jobs), {}, False
    while pool.busy or (waiting and not stopping()):
        if stopping() and not asked:
            asked = True
            pool.stop()
        while waiting and pool.room and not stopping():
            pool.give(waiting.pop(0))
        for done in pool.take(lambda rung: True):
            _note(done, found, stopping())
            if done.scores is not None:
                report(1)
    if stopping():
        raise CarbonPilotError(
            "Stopped when asked to, during the last choice. With --study FILE the same command goes on."
        )
    return found


def _note(done: Done, found: dict[Any, Scores], stopping: bool) -> None:
    if done.scores is not None:
        found[done.key] = done.scores
    elif not stopping:
        raise failed(done)


def finalist(name: str, changes: Mapping[str, Any], scores: Sequence[Scores]) -> Finalist:
    """Put the seeds of one setting together."""
    pooled = {f.name: np.concatenate([getattr(s, f.name) for s in scores], axis=1) for f in fields(Scores)}
    return Finalist(name, changes, Scores(**pooled))


def choose(finalists: Sequence[Finalist], objective: Objective) -> int:
    """The finalist to ship: the least carbon among those that reach the aim, else the least objective."""
    stacked = {
        f.name: np.concatenate([getattr(one.scores, f.name) for one in finalists]) for f in fields(Scores)
    }
    return objective.best(Scores(**stacked))
