"""Joules of single requests: calibrated ones, corrected so that they add up to what a meter counted.

No meter follows a request: they sample at 10 Hz where a request takes 50 ms. So calibration measures what a request of
each kind takes on the average, and every window's total says how far that is right today (clocks, temperature, model).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .meter import MeterError
from .windows import WindowEnergy

LOW, HIGH = (
    0.5,
    2.0,
)  # beyond these the calibration describes another machine, or something else runs (assumed)
REMEMBERED = 600  # windows that the correction is estimated from
F64 = npt.NDArray[np.float64]
Kind = tuple[str, str]  # placement and state of the device, as calibrated


@dataclass(frozen=True)
class TimedRequest:
    """A request that took energy of the meter's scope from ``start_s`` to ``end_s``, evenly."""

    placement: str
    state: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Correction:
    """Measured over calibrated energy.

    Attributes:
        factor: ratio of sums over windows, within the bounds; 1 before any window.
        standard_error: of the ratio, from its scatter over windows; infinite before the second window.
        windows: windows behind it.
        clamped: whether the ratio lay outside the bounds.
    """

    factor: float
    standard_error: float
    windows: int
    clamped: bool


@dataclass(frozen=True)
class Attribution:
    """Where a window's joules went; requests + idle + unexplained = gross.

    Attributes:
        request_j: of each request, the part inside the window (N,).
        idle_j: what the scope takes with nothing to do.
        unexplained_j: 0, unless no request can explain it or the factor met its bound. Below 0 where calibration
            claims more than was measured.
        factor: this window's own correction; None without requests.
        clamped: whether it met its bound.
    """

    request_j: F64
    idle_j: float
    unexplained_j: float
    factor: float | None
    clamped: bool

    @property
    def total_j(self) -> float:
        """The window's gross energy again."""
        return float(self.request_j.sum()) + self.idle_j + self.unexplained_j


class RequestEnergyModel:
    """Calibrated net joules per request by placement and state, corrected by window totals.

    Args:
        joules: what a request of each kind takes beyond idling, J.
        low, high: bounds of the correction.

    Raises:
        MeterError: a calibrated energy or a bound cannot be.
    """

    def __init__(self, joules: Mapping[Kind, float], low: float = LOW, high: float = HIGH) -> None:
        for kind, value in joules.items():
            if not (math.isfinite(value) and value > 0):
                raise MeterError(
                    f"Calibrated energy of {'/'.join(kind)} must be above 0 J, got {value}. Calibrate it again."
                )
        if not joules or not 0 < low <= 1 <= high < math.inf:
            raise MeterError(
                f"Energy per request needs calibrated kinds and bounds around 1, got {len(joules)} kinds and bounds "
                f"{low} to {high}."
            )
        self._joules, self._bounds = dict(joules), (low, high)
        self._history: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)  # calibrated J, measured J

    def calibrated_j(self, placement: str, state: str) -> float:
        """Energy of one request as calibrated, J.

        Raises:
            MeterError: this kind was not calibrated.
        """
        try:
            return self._joules[placement, state]
        except KeyError:
            known = ", ".join("/".join(kind) for kind in sorted(self._joules))
            raise MeterError(
                f"Energy of a request at '{placement}' in state '{state}' was not calibrated (known: {known}). Run "
                "'carbonpilot calibrate' for it; nothing is guessed."
            ) from None

    def estimate_j(self, placement: str, state: str) -> float:
        """Energy of one request with the correction of the windows so far: what is known before its window ends, J."""
        return self.calibrated_j(placement, state) * self.correction.factor

    @property
    def correction(self) -> Correction:
        """The ratio estimate over the last windows, with its standard error (Cochran, Sampling Techniques, 6.4)."""
        if not self._history:
            return Correction(1.0, math.inf, 0, False)
        calibrated, measured = np.array(self._history).T
        ratio, windows = measured.sum() / calibrated.sum(), len(self._history)
        error = math.inf
        if windows > 1:
            residual = measured - ratio * calibrated
            variance = (residual**2).sum() / (windows * (windows - 1))
            error = math.sqrt(variance) / calibrated.mean()
        factor = self._clamp(ratio)
        return Correction(factor, error, windows, factor != ratio)

    def attribute(self, window: WindowEnergy, requests: Sequence[TimedRequest]) -> Attribution:
        """Share a window's net energy among its requests, and learn from it.

        A request that reaches into other windows brings the share of its calibrated energy that lies in this one, so
        hand it to each of them.

        Args:
            window: measured throughout (from `WindowIntegrator.account`) and with an idle baseline.
            requests: all that ran in the window; others get 0 J.

        Raises:
            MeterError: the window has gaps or no idle baseline, a request was not calibrated or never ended.
        """
        if window.gaps_s:
            raise MeterError(
                f"Meter {window.meter}: the window from {window.start_s:g} to {window.end_s:g} s has gaps; "
                "leave it out."
            )
        net_j = window.net_j
        calibrated = np.array([self._calibrated_in(window, r) for r in requests], dtype=np.float64)
        explained_j = float(calibrated.sum())
        idle_j = window.gross_j - net_j
        if not explained_j > 0:
            return Attribution(np.zeros(len(requests)), idle_j, net_j, None, False)
        self._history.append((explained_j, net_j))
        ratio = net_j / explained_j
        factor = self._clamp(ratio)
        request_j = factor * calibrated
        clamped = factor != ratio
        rest_j = net_j - float(request_j.sum()) if clamped else 0.0
        return Attribution(request_j, idle_j, rest_j, factor, clamped)

    def _clamp(self, ratio: float) -> float:
        return float(min(max(ratio, self._bounds[0]), self._bounds[1]))

    def _calibrated_in(self, window: WindowEnergy, request: TimedRequest) -> float:
        if not request.start_s < request.end_s:
            raise MeterError(
                f"A request at '{request.placement}' must end after it began, got {request.start_s:g} to "
                f"{request.end_s:g} s."
            )
        inside_s = min(request.end_s, window.end_s) - max(request.start_s, window.start_s)
        share = max(inside_s, 0.0) / (request.end_s - request.start_s)
        return share * self.calibrated_j(request.placement, request.state)
