"""A quantile followed as it drifts: the tracked level of the errors of a prediction, without a model of them."""

from __future__ import annotations

import math


class QuantileTracker:
    """Follows the quantile of scores that come one after the other.

    ``q' = q + step (1{score > q} - level)``: the quantile tracker of Angelopoulos, Candes and Tibshirani (2023),
    "Conformal PID Control for Time Series Prediction", section 2.1; it is online gradient descent on the quantile loss,
    and adaptive conformal inference (Gibbs and Candes 2021) is the same step on the level. Whatever the scores do, as
    long as they stay within bounds b apart, the share above q over T steps differs from the level by at most
    (b + step) / (step T).

    Attributes:
        value: the tracked quantile.
        count: scores taken in.
        above: how many were above the quantile of their time.
    """

    __slots__ = ("_down", "_start", "_up", "above", "count", "factor", "value")

    def __init__(self, level: float, step: float, start: float) -> None:
        """Track the quantile that a share ``level`` of the scores exceeds, from ``start`` on."""
        self._up, self._down = step * (1.0 - level), step * level
        self._start = start
        self.count = self.above = 0
        self.move(start)

    def move(self, value: float) -> None:
        """Set the quantile; `factor` is its exponential."""
        self.value = value
        self.factor = math.exp(value)

    def update(self, score: float) -> None:
        """Take in a score; infinity counts as above, whatever the quantile."""
        self.count += 1
        if score > self.value:
            self.above += 1
            self.move(self.value + self._up)
        else:
            self.move(self.value - self._down)

    def forget(self, share: float) -> None:
        """Go back towards the start by a share of the way."""
        self.move(self.value + min(share, 1.0) * (self._start - self.value))
