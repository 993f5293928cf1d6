"""Predicted against measured: figures of the same requests, with the interval that noise alone would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
LEAST_FOR_MEAN, LEAST_FOR_P95 = 20, 60  # requests below which a figure is shown and not judged


@dataclass(frozen=True)
class Figure:
    """One number, measured once and predicted by many draws of the noise.

    Attributes:
        measured: of the run.
        predicted: mean over the draws.
        low, high: 95 % of the draws: where the run should lie if the simulator is right.
    """

    measured: float
    predicted: float
    low: float
    high: float

    @property
    def relative_error(self) -> float:
        """(predicted - measured) / measured; 0 where both are 0, infinite where only the measured one is."""
        if self.measured == 0:
            return 0.0 if self.predicted == 0 else float("inf")
        return (self.predicted - self.measured) / self.measured

    @property
    def inside(self) -> bool:
        """Whether noise alone explains the difference."""
        return self.low <= self.measured <= self.high

    def off(self, threshold: float) -> bool:
        """Whether it is off by more than a share of the measured value, and not by noise."""
        return abs(self.relative_error) > threshold and not self.inside


def figure(measured: F64, predicted: F64, of: Callable[..., F64]) -> Figure:
    """Compare a statistic.

    Args:
        measured: values of the run (n,).
        predicted: of the same requests in each draw (n, B).
        of: statistic along an axis, as ``np.mean``.
    """
    draws = np.asarray(of(predicted, axis=0))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(float(of(measured, axis=0)), float(draws.mean()), float(low), float(high))


def p50(values: F64, axis: int) -> F64:
    """Median."""
    return np.median(values, axis=axis)


def p95(values: F64, axis: int) -> F64:
    """95th percentile."""
    return np.quantile(values, 0.95, axis=axis)


@dataclass(frozen=True)
class Comparison:
    """The requests of one placement, under one condition or under all that are calibrated.

    Attributes:
        placement: its name.
        condition: name of the stretch, or "all".
        basis: where loss and rate came from, "calibrated" or another (`link_truth.LinkTruth`).
        count: requests.
        mean_ms, p50_ms, p95_ms: latency.
        energy_j: marginal energy of a request, mean of those that were charged; None where none was.
        head_ms, rest_ms: of a split model: mean time of the head, and mean of what follows on it; None of a whole one.
    """

    placement: str
    condition: str
    basis: str
    count: int
    mean_ms: Figure
    p50_ms: Figure
    p95_ms: Figure
    energy_j: Figure | None
    head_ms: Figure | None = None
    rest_ms: Figure | None = None

    @property
    def judged(self) -> bool:
        """Whether there are requests enough, on a link as it was calibrated, to say something."""
        return self.basis == "calibrated" and self.count >= LEAST_FOR_MEAN


def comparison(
    placement: str,
    condition: str,
    basis: str,
    chosen: Flags,
    latency_ms: tuple[F64, F64],
    energy_j: tuple[F64, F64],
    parts: tuple[tuple[F64, F64], tuple[F64, F64]] | None = None,
) -> Comparison | None:
    """Compare the chosen requests; None where there are none.

    Args:
        placement, condition, basis: see `Comparison`.
        chosen: which requests (N,).
        latency_ms, energy_j: measured (N,), NaN where unknown, and predicted (N, B).
        parts: of a split model, the same of the head, and of what follows on it.
    """
    count = int(chosen.sum())
    if not count:
        return None
    latency = latency_ms[0][chosen], latency_ms[1][chosen]
    charged = chosen & ~np.isnan(energy_j[0])
    energy = energy_j[0][charged], energy_j[1][charged]
    return Comparison(
        placement,
        condition,
        basis,
        count,
        figure(*latency, np.mean),
        figure(*latency, p50),
        figure(*latency, p95),
        figure(*energy, np.mean) if charged.any() else None,
        *(figure(part[0][chosen], part[1][chosen], np.mean) for part in parts or ()),
    )
