"""Play settings on tuning tapes, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from .tune_evaluate import Parameters, Rule, Scores, TuningTapes

_TAPES: list[TuningTapes] = []  # of a worker process


class Players:
    """The same tapes for every setting; with ``jobs`` processes each has them all and takes some of the settings.

    The tapes are drawn when they are first needed.
    """

    def __init__(
        self, scenario: Scenario, seeds: npt.NDArray[np.int64], traces_dir: str | None = None, jobs: int = 1
    ) -> None:
        """Remember what to play; nothing is drawn yet."""
        self._arguments = (scenario, seeds, traces_dir)
        self._jobs, self._tapes, self._pool = jobs, None, None
        self.requests = len(seeds) * scenario.episode.requests

    def __enter__(self) -> Players:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def together(self) -> int:
        """Settings that are best given at once."""
        return self._jobs * self._own().together

    def _own(self) -> TuningTapes:
        if self._tapes is None:
            self._tapes = TuningTapes(*self._arguments)
        return self._tapes

    def score(self, rule: Rule, settings: Sequence[Parameters]) -> Scores:
        """Play a rule with each of some settings on every tape."""
        size = self._own().together
        if self._jobs == 1 or len(settings) <= size:
            return self._own().score(rule, settings)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._jobs, multiprocessing.get_context("spawn"), _start_worker, self._arguments
            )
        shares = [settings[i : i + size] for i in range(0, len(settings), size)]
        parts = list(self._pool.map(_score_in_worker, [rule] * len(shares), shares))
        return Scores(
            **{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Scores)}
        )


def _start_worker(scenario: Scenario, seeds: npt.NDArray[np.int64], traces_dir: str | None) -> None:
    _TAPES.append(TuningTapes(scenario, seeds, traces_dir))


def _score_in_worker(rule: Rule, settings: Sequence[Parameters]) -> Scores:
    return _TAPES[0].score(rule, settings)
