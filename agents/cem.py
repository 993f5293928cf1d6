"""The cross-entropy method with restarts, for a dozen or more numbers and a noisy objective.

De Boer, Kroese, Mannor, Rubinstein, "A Tutorial on the Cross-Entropy Method" (2005), section 5: draw a population
from independent normal distributions, keep the best few, move mean and deviation towards theirs, with smoothing.
It works in the unit cube; the caller maps that to parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CemSettings:
    """How the method searches.

    Attributes:
        population: points a generation.
        elite_share: share of them that the next generation is made from.
        smoothing: weight of the elite in the new mean; the rest stays as it was.
        deviation_smoothing: the same for the deviation; smaller, or it shrinks before the mean has arrived.
        wide, narrow: deviation at the start of a fresh search, and of one that goes on from the best point.
        least_deviation: below it a search stops shrinking.
        generations: length of one search; then the next start.
    """

    population: int = 64
    elite_share: float = 0.15
    smoothing: float = 0.7
    deviation_smoothing: float = 0.5
    wide: float = 0.25
    narrow: float = 0.08
    least_deviation: float = 0.01
    generations: int = 20


class Cem:
    """Minimises by asking for populations and being told their values; the same seed and values, the same path.

    The first search starts wide around ``start``. Then searches take turns: from the best point so far with a
    narrow deviation, and wide from a random place, so that a first bad valley is not the last word.
    """

    def __init__(self, start: npt.ArrayLike, seed: int, settings: CemSettings | None = None) -> None:
        """Begin at ``start`` (D,), coordinates in [0, 1]."""
        self.settings = settings or CemSettings()
        self.start = np.clip(np.asarray(start, np.float64), 0.0, 1.0)
        self.best_point, self.best_value = self.start, np.inf
        self._rng = np.random.default_rng(seed)
        self._generation = 0
        self._begin_search(0)

    def ask(self) -> F64:
        """The next population (population, D); the search's mean comes first, the best point so far second."""
        if self._generation and self._generation % self.settings.generations == 0:
            self._begin_search(self._generation // self.settings.generations)
        drawn = self._rng.normal(self._mean, self._deviation, (self.settings.population, self.start.size))
        self._asked = _reflected(drawn)
        self._asked[0] = self._mean
        if np.isfinite(self.best_value) and len(self._asked) > 1 and not self._fresh:
            self._asked[1] = self.best_point
        return self._asked

    def tell(self, values: npt.ArrayLike) -> None:
        """Learn the objective (population,) of the points last asked for; NaN counts as worst."""
        worth = np.asarray(values, np.float64)
        if worth.shape != (len(self._asked),):
            raise ValueError(f"expected {len(self._asked)} values, got shape {worth.shape}")
        order = np.argsort(np.where(np.isnan(worth), np.inf, worth), kind="stable")
        if worth[order[0]] < self.best_value:
            self.best_point, self.best_value = self._asked[order[0]].copy(), float(worth[order[0]])
        elite = self._asked[order[: max(2, round(self.settings.elite_share * len(order)))]]
        weight = self.settings.smoothing
        self._mean = (1 - weight) * self._mean + weight * elite.mean(axis=0)
        weight = self.settings.deviation_smoothing
        deviation = (1 - weight) * self._deviation + weight * elite.std(axis=0)
        self._deviation = np.maximum(deviation, self.settings.least_deviation)
        self._generation += 1

    def _begin_search(self, search: int) -> None:
        """Odd searches go on from the best, even ones (but the first) start anywhere."""
        self._fresh = search % 2 == 0
        if search == 0:
            self._mean = self.start
        elif self._fresh:
            self._mean = self._rng.uniform(0.2, 0.8, self.start.size)
        else:
            self._mean = self.best_point
        spread = self.settings.wide if self._fresh else self.settings.narrow
        self._deviation = np.full(self.start.size, spread)


def _reflected(points: F64) -> F64:
    """Fold what lies outside of [0, 1] back at the border, which clipping would pile up there."""
    return 1.0 - np.abs(1.0 - np.mod(points, 2.0))
