"""From samples to joules per window: gross, idle and net, and what of it was not measured."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ...envs.errors import InputError
from ...envs.power_log import F64, long_intervals, rising_times, times_within, trapezoids
from .meter import MeterError, Sample, checked

IDLE_PARTS = 10  # equal parts of an idle window whose means show its spread


@dataclass(frozen=True)
class IdleBaseline:
    """Power of the meter's scope with nothing to do.

    Attributes:
        power_w: mean over the window.
        low_w, high_w: the least and the greatest mean of ten equal parts of the window.
        start_s, end_s: the window it was measured over.
    """

    power_w: float
    low_w: float
    high_w: float
    start_s: float
    end_s: float


@dataclass(frozen=True)
class WindowEnergy:
    """What a meter counted in a window.

    Attributes:
        meter: its name.
        start_s, end_s: the window.
        gross_j: all of it, gaps bridged.
        idle_j: idle power times the length; None where no baseline was measured.
        gaps_s: (start, end) of each stretch in the window in which the meter was silent for longer than allowed.
        bridged_j: the part of ``gross_j`` that lies in gaps, assumed and not measured.
        samples: samples inside the window.
    """

    meter: str
    start_s: float
    end_s: float
    gross_j: float
    idle_j: float | None
    gaps_s: tuple[tuple[float, float], ...]
    bridged_j: float
    samples: int

    @property
    def net_j(self) -> float:
        """What work took beyond idling, J; below 0 where the baseline was too high.

        Raises:
            MeterError: no baseline was measured.
        """
        if self.idle_j is None:
            raise MeterError(
                f"Meter {self.meter}: net energy needs an idle baseline; measure one with nothing running first."
            )
        return self.gross_j - self.idle_j

    @property
    def mean_w(self) -> float:
        """Mean power, W."""
        return self.gross_j / (self.end_s - self.start_s)


class WindowIntegrator:
    """Keeps the samples of one meter for a while and answers how much energy any window in it took.

    Power is integrated by trapezoids; a counter's difference is taken, its state at the window's ends interpolated. A
    meter is alive where its power is above 0 or its counter rises: longer silence than ``max_gap_s`` is a gap. For one
    thread: a `SamplerThread` keeps what comes in until that thread takes it.

    Args:
        meter: name of the meter.
        max_gap_s: the longest interval that counts as measured; a few times the meter's own update interval.
        keep: samples to remember; older ones are forgotten.
    """

    def __init__(self, meter: str, max_gap_s: float, keep: int = 10_000) -> None:
        if not max_gap_s > 0 or keep < 2:
            raise MeterError(
                f"Meter {meter}: max_gap_s must be above 0 and keep at least 2, got {max_gap_s} and {keep}."
            )
        self.meter, self.max_gap_s = meter, max_gap_s
        self.idle: IdleBaseline | None = None
        self._samples: deque[tuple[float, float]] = deque(maxlen=keep)
        self._counts: bool | None = None

    def add(self, sample: Sample) -> None:
        """Take the next sample.

        Raises:
            MeterError: it is NaN or negative, not later than the last one, of another kind, or a counter that fell. The
                sample is left out.
        """
        checked(self.meter, sample)
        if self._counts is not None and self._counts != sample.counts:
            raise MeterError(
                f"Meter {self.meter} gave power and energy in turn; use one integrator for each."
            )
        if self._samples:
            self._check_order(sample)
        self._counts = sample.counts
        self._samples.append((sample.time_s, sample.value))

    def check_alive(self, now_s: float) -> None:
        """Raise if the meter has been silent for too long.

        Raises:
            MeterError: the last sample is older than ``max_gap_s``, or there is none.
        """
        last_s = self._samples[-1][0] if self._samples else None
        if last_s is None or now_s - last_s > self.max_gap_s:
            age = (
                "never gave a sample"
                if last_s is None
                else f"gave its last sample {now_s - last_s:.3g} s ago"
            )
            raise MeterError(
                f"Meter {self.meter} is silent: it {age}; at most {self.max_gap_s:g} s are allowed. "
                "Energy is not known from here on, and is not zero."
            )

    def measure_idle(self, start_s: float, end_s: float) -> IdleBaseline:
        """Take a window in which nothing ran as the baseline of later ones.

        Raises:
            MeterError: the window has gaps, is not covered, or holds fewer samples than parts.
        """
        window = self.account(start_s, end_s)
        if window.samples < 2 * IDLE_PARTS:
            raise MeterError(
                f"Meter {self.meter}: an idle baseline needs at least {2 * IDLE_PARTS} samples, {window.samples} lie "
                f"in {start_s:g} to {end_s:g} s. Measure longer."
            )
        bounds = np.linspace(start_s, end_s, IDLE_PARTS + 1)
        time, energy = self._cumulative(start_s, end_s)
        means = np.diff(np.interp(bounds, time, energy)) / np.diff(bounds)
        self.idle = IdleBaseline(window.mean_w, float(means.min()), float(means.max()), start_s, end_s)
        return self.idle

    def energy(self, start_s: float, end_s: float) -> WindowEnergy:
        """Energy of a window with its gaps, for looking at.

        Raises:
            MeterError: samples do not cover it, or the meter was silent in all of it.
        """
        time, energy = self._cumulative(start_s, end_s)
        gross_j = float(energy[-1])
        if not gross_j > 0:
            raise MeterError(
                f"Meter {self.meter} is silent: its {'counter stood still' if self._counts else 'power was 0'} from "
                f"{start_s:g} to {end_s:g} s. Mend it (driver, permissions), or take a window longer than its update "
                "interval; a machine that runs needs energy."
            )
        gaps = self._gaps(start_s, end_s)
        return WindowEnergy(
            self.meter,
            start_s,
            end_s,
            gross_j,
            None if self.idle is None else self.idle.power_w * (end_s - start_s),
            gaps,
            float(sum(np.diff(np.interp(gap, time, energy)).item() for gap in gaps)),
            time.size - 2,
        )

    def account(self, start_s: float, end_s: float) -> WindowEnergy:
        """Energy of a window that was measured throughout, for charging to requests.

        Raises:
            MeterError: as `energy`, and for any gap.
        """
        window = self.energy(start_s, end_s)
        if window.gaps_s:
            first = window.gaps_s[0]
            raise MeterError(
                f"Meter {self.meter} was silent {len(window.gaps_s)} times in {start_s:g} to {end_s:g} s, first from "
                f"{first[0]:g} to {first[1]:g} s; at most {self.max_gap_s:g} s are allowed. {window.bridged_j:.3g} J "
                "would be assumed, not measured: leave this window out."
            )
        return window

    def _check_order(self, sample: Sample) -> None:
        last_s, last = self._samples[-1]
        if sample.time_s <= last_s:
            raise MeterError(
                f"Meter {self.meter}: a sample at {sample.time_s:g} s after one at {last_s:g} s. The clock was set "
                "back or a sample was given twice; use a monotonic clock."
            )
        if sample.counts and sample.value < last:
            raise MeterError(
                f"Meter {self.meter}: its counter fell from {last:g} to {sample.value:g} J. The driver was loaded "
                "again; start a new integrator."
            )

    def _arrays(self) -> tuple[F64, F64]:
        pairs = np.array(self._samples, dtype=np.float64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _cumulative(self, start_s: float, end_s: float) -> tuple[F64, F64]:
        """Times from start to end of the window, and the energy since its start at each."""
        time, values = self._arrays()
        try:
            inside = times_within(rising_times(time), start_s, end_s)
        except InputError as err:
            raise MeterError(f"Meter {self.meter}: {err}") from err
        at = np.interp(inside, time, values)
        if self._counts:
            return inside, at - at[0]
        return inside, np.concatenate([[0.0], np.cumsum(trapezoids(np.diff(inside), at))])

    def _gaps(self, start_s: float, end_s: float) -> tuple[tuple[float, float], ...]:
        """Stretches without a sign of life, cut to the window."""
        time, values = self._arrays()
        alive = np.diff(values, prepend=values[0] - 1) > 0 if self._counts else values > 0
        alive[[0, -1]] = True  # the ends of what is known
        return tuple(
            (max(start, start_s), min(end, end_s))
            for start, end in long_intervals(time[alive], self.max_gap_s)
            if start < end_s and end > start_s
        )
