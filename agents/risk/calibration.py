"""Is a predicted probability the frequency that follows? Reliability curves, and the correction that they call for.

Bins are of equal width in probability; the expected calibration error is the mean distance between predicted and
observed shares, weighted by the samples of each bin (Guo et al., "On Calibration of Modern Neural Networks", 2017,
equation 3). The correction is Platt's: a line through each placement's logits, which the head's last layer takes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .collect import Bools, Samples

BINS = 10
F64 = npt.NDArray[np.float64]

LEAST_SLOPE, MOST_SLOPE = 0.2, 5.0  # a line that wants more is a fit to a handful of misses
_NEWTON_STEPS, _LEAST_STEP = 50, 1e-7
_RIDGE = 1.0  # of one sample's weight: keeps the line where a placement hardly ever misses


@dataclass(frozen=True)
class Curve:
    """A reliability curve.

    Attributes:
        count: samples of each bin (BINS,).
        predicted: their mean predicted probability of a miss (BINS,), NaN without samples.
        observed: share of them that missed (BINS,), NaN without samples.
        brier: mean squared error of the probabilities.
    """

    count: npt.NDArray[np.int64]
    predicted: F64
    observed: F64
    brier: float

    @property
    def samples(self) -> int:
        """Samples of all bins."""
        return int(self.count.sum())

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1."""
        filled = self.count > 0
        distance = np.abs(self.predicted - self.observed)[filled]
        return float((distance * self.count[filled]).sum() / max(1, self.samples))

    @property
    def mean_predicted(self) -> float:
        """Mean predicted probability of all samples."""
        return _mean(self.predicted, self.count)

    @property
    def mean_observed(self) -> float:
        """Share of all samples that missed."""
        return _mean(self.observed, self.count)

    def as_dict(self) -> dict[str, Any]:
        """For the card: bins with samples only."""
        filled = np.flatnonzero(self.count)
        return {
            "samples": self.samples,
            "expected_calibration_error": round(self.error, 5),
            "brier_score": round(self.brier, 5),
            "miss_share_predicted": round(self.mean_predicted, 5),
            "miss_share_observed": round(self.mean_observed, 5),
            "bins": [
                {
                    "from": round(b / BINS, 3),
                    "to": round((b + 1) / BINS, 3),
                    "samples": int(self.count[b]),
                    "predicted": round(float(self.predicted[b]), 5),
                    "observed": round(float(self.observed[b]), 5),
                }
                for b in filled
            ],
        }


def curve(probability: npt.NDArray[np.floating], missed: Bools) -> Curve:
    """The reliability curve of probabilities (N,) of what happened or not (N,)."""
    p, happened = np.asarray(probability, np.float64), np.asarray(missed, bool)
    bins = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(bins, weights=p, minlength=BINS) / count
        observed = np.bincount(bins, weights=happened, minlength=BINS) / count
    brier = float(np.mean((p - happened) ** 2)) if len(p) else 0.0
    return Curve(count, predicted, observed, brier)


def curves(samples: Samples, logits: npt.NDArray[np.float32], names: Sequence[str]) -> dict[str, Curve]:
    """One curve for each placement, and one of the placements that were chosen.

    The chosen ones are the hard test: a choice prefers placements whose risk was underestimated.

    Args:
        samples: labelled requests of fresh tapes (N rows).
        logits: of the head on them (N, P).
        names: of the placements (P,).
    """
    p = sigmoid(logits)
    found = {
        name: curve(p[rows, i], samples.missed[rows, i])
        for i, name in enumerate(names)
        for rows in [samples.allowed[:, i]]
    }
    rows = np.arange(len(samples))
    found["chosen"] = curve(p[rows, samples.chosen], samples.missed[rows, samples.chosen])
    return found


def correction(samples: Samples, logits: npt.NDArray[np.float32]) -> tuple[F64, F64]:
    """Slope and shift of each placement's logits (P,) that make them likeliest on samples the head never saw.

    A placement that always or never missed keeps its logits.
    """
    lines = [
        _platt(logits[rows, i].astype(np.float64), samples.missed[rows, i])
        for i in range(logits.shape[1])
        for rows in [samples.allowed[:, i]]
    ]
    slope, shift = zip(*lines, strict=True)
    return np.array(slope), np.array(shift)


def _platt(logits: F64, missed: Bools) -> tuple[float, float]:
    """Logistic regression on one number (Platt 1999), by Newton steps that are halved where they are too long."""
    if missed.all() or not missed.any():
        return 1.0, 0.0
    design = np.stack([np.clip(logits, -20, 20), np.ones_like(logits)], axis=1)
    prior = np.array([1.0, 0.0])

    def loss(line: F64) -> float:
        odds = design @ line
        return float((np.logaddexp(0, odds) - missed * odds).sum() + _RIDGE * ((line - prior) ** 2).sum() / 2)

    line, best = prior, loss(prior)
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(design @ line)
        gradient = design.T @ (p - missed) + _RIDGE * (line - prior)
        curvature = (design.T * (p * (1 - p))) @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(line - step) > best and np.abs(step).max() > _LEAST_STEP:
            step = step / 2
        if np.abs(step).max() <= _LEAST_STEP:
            break
        line, best = line - step, loss(line - step)
    sane = bool(np.isfinite(line).all()) and LEAST_SLOPE <= line[0] <= MOST_SLOPE
    return (float(line[0]), float(line[1])) if sane else (1.0, 0.0)


def sigmoid(logits: npt.NDArray[np.floating]) -> F64:
    """Probabilities of logits, in double precision."""
    return 1.0 / (1.0 + np.exp(-np.clip(np.asarray(logits, np.float64), -60, 60)))


def _mean(values: F64, count: npt.NDArray[np.int64]) -> float:
    filled = count > 0
    return float((values[filled] * count[filled]).sum() / max(1, count.sum()))
