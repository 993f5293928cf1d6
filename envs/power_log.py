"""The integral of power samples, and what a meter's readings must be; for every part that turns watts into joules.

A meter that fails must not read as a machine that needs nothing: NaN, negative or silent meters and clocks that
run back are errors, and stretches without samples are listed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import InputError

F64 = npt.NDArray[np.float64]


def numbers(name: str, values: npt.ArrayLike, size: int | None = None) -> F64:
    """Readings as an array (N,), or (1,) where ``size`` is given and one number stands for all.

    Raises:
        InputError: one is NaN or infinite, or there are too many or too few.
    """
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or (size is not None and array.size not in (1, size)):
        raise InputError(
            f"{name} must hold one number for each of the {size or 'N'} samples, got {array.shape}."
        )
    if (bad := np.flatnonzero(~np.isfinite(array))).size:
        raise InputError(
            f"{name}: sample {bad[0]} is {array[bad[0]]}. The meter gave no reading there; leave the sample out, "
            "so that the gap shows."
        )
    return array


def rising_times(time_s: npt.ArrayLike) -> F64:
    """Times of at least two samples, each later than the one before (N,).

    Raises:
        InputError: there are fewer than two, or time stands still or runs back.
    """
    time = numbers("time_s", time_s)
    if time.size < 2:
        raise InputError(f"Energy needs at least 2 power samples, got {time.size}: the meter is silent.")
    if (back := np.flatnonzero(np.diff(time) <= 0)).size:
        i = int(back[0]) + 1
        raise InputError(
            f"time_s must rise: sample {i} is at {time[i]:g} s after {time[i - 1]:g} s. "
            "The clock was set back or a sample was written twice; use a monotonic clock."
        )
    return time


def not_negative(name: str, values: F64) -> F64:
    """The readings themselves, none below zero.

    Raises:
        InputError: one is.
    """
    if (bad := np.flatnonzero(values < 0)).size:
        raise InputError(
            f"{name}: sample {bad[0]} is {values[bad[0]]:g}, and a meter cannot read less than 0."
        )
    return values


def power_readings(name: str, values: npt.ArrayLike, size: int) -> F64:
    """Power (size,), W; a meter that only reads 0 is broken, not frugal.

    Raises:
        InputError: a reading is NaN or negative, one is missing, or all are 0.
    """
    power_w = not_negative(name, numbers(name, values))
    if power_w.size != size:
        raise InputError(
            f"{name} has {power_w.size} samples and time_s {size}. Give one reading for each time."
        )
    if not power_w.any():
        raise InputError(
            f"{name}: the meter is silent, all {size} samples are 0 W. Mend it (permissions of RAPL, driver of "
            "the GPU), or give None for a GPU that the host does not have."
        )
    return power_w


def trapezoids(intervals_s: F64, power_w: F64) -> F64:
    """Energy of each interval between samples (N - 1,), J; exact where power is linear in between."""
    return intervals_s * (power_w[:-1] + power_w[1:]) / 2


def times_within(time_s: F64, start_s: float, end_s: float) -> F64:
    """Both ends of a stretch and the samples between them, for interpolation with ``np.interp``.

    Raises:
        InputError: the stretch is empty, or the samples do not cover it.
    """
    if not time_s[0] <= start_s < end_s <= time_s[-1]:
        raise InputError(
            f"Energy from {start_s:g} to {end_s:g} s needs samples over all of it; they cover "
            f"{time_s[0]:g} to {time_s[-1]:g} s. Start the meter earlier and stop it later."
        )
    return np.concatenate([[start_s], time_s[(time_s > start_s) & (time_s < end_s)], [end_s]])


def long_intervals(time_s: F64, max_gap_s: float) -> tuple[tuple[float, float], ...]:
    """(start, end) of each stretch between samples that is longer than allowed."""
    gaps = np.flatnonzero(np.diff(time_s) > max_gap_s)
    return tuple((float(time_s[i]), float(time_s[i + 1])) for i in gaps)
