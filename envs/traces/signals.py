"""The one way to read a value that changes with time: it ends with its trace, and its gaps stay gaps."""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt

from ..errors import TraceEndedError
from .steps import GAP_FACTOR

F64 = npt.NDArray[np.float64]


class Signal:
    """A step-wise value: each sample holds for one step from its time on.

    Inside a gap, and where a sample was not measured, the value is NaN. Outside the trace there is no value.
    """

    def __init__(self, name: str, unit: str, time_s: F64, values: F64, step_s: float) -> None:
        """Hold samples.

        Args:
            name: what it is, for messages.
            unit: unit of the values.
            time_s: start of each sample (n,), s, ascending.
            values: the samples (n,), NaN where not measured.
            step_s: how long a sample holds, s.
        """
        self.name, self.unit, self.step_s = name, unit, step_s
        self._time_s, self._values = time_s, values
        own_end = time_s + step_s
        following = np.append(time_s[1:], own_end[-1])
        # A sample reaches to the next one where that is a little late (stamps jitter), never across a gap.
        self._holds_until_s = np.where(following - time_s <= GAP_FACTOR * step_s, following, own_end)
        measured = np.where(np.isnan(values), -1, np.arange(len(values)))
        self._last_measured = np.maximum.accumulate(measured)

    @property
    def start_s(self) -> float:
        """First covered time, s."""
        return float(self._time_s[0])

    @property
    def end_s(self) -> float:
        """End of the last sample, s; not covered any more."""
        return float(self._time_s[-1] + self.step_s)

    @overload
    def at(self, t_s: float) -> float: ...
    @overload
    def at(self, t_s: npt.NDArray) -> F64: ...
    def at(self, t_s):
        """Value at ``t_s`` in the signal's unit: a float for a float, an array for an array; NaN in a gap.

        Raises:
            TraceEndedError: a time lies before the first sample or past the last one's end.
        """
        t, index = self._locate(t_s)
        return _like(t_s, np.where(t < self._holds_until_s[index], self._values[index], np.nan))

    def valid(self, t_s: npt.ArrayLike) -> npt.NDArray[np.bool_] | bool:
        """Whether there is a measured value at ``t_s``."""
        found = ~np.isnan(np.asarray(self.at(np.asarray(t_s, dtype=np.float64))))
        return found if np.ndim(t_s) else bool(found)

    def age_s(self, t_s: npt.ArrayLike) -> F64 | float:
        """Time since the start of the last measured sample, s; infinite where there was none before."""
        t, index = self._locate(t_s)
        last = self._last_measured[index]
        return _like(t_s, np.where(last < 0, np.inf, t - self._time_s[np.maximum(last, 0)]))

    def _locate(self, t_s: npt.ArrayLike) -> tuple[F64, npt.NDArray[np.intp]]:
        t = np.asarray(t_s, dtype=np.float64)
        outside = ~((t >= self.start_s) & (t < self.end_s))
        if outside.any():
            first = np.atleast_1d(t)[np.atleast_1d(outside)][0]
            raise TraceEndedError(
                f"{self.name} covers {self.start_s:.15g} s to {self.end_s:.15g} s, asked for {first:.15g} s. "
                "A trace never repeats: end the episode there."
            )
        return t, np.searchsorted(self._time_s, t, side="right") - 1


def _like(asked: npt.ArrayLike, values: npt.NDArray):
    return values if np.ndim(asked) else float(values)
