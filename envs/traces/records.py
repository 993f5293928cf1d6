"""Typed records of the three kinds of traces. Nothing in them is filled: what was not measured is NaN."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .signals import Signal

F64 = npt.NDArray[np.float64]

Factors = Literal["lifecycle", "direct", "not stated"]


class _ReadOnly:
    """Makes the arrays of a frozen record read-only as well."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


@dataclass(frozen=True, eq=False)
class GridTrace(_ReadOnly):
    """Carbon intensity of one grid zone.

    Attributes:
        file: where it was read.
        form: file form ("grid-csv", "electricity-maps", "gb-carbon-intensity").
        zone: zone id, or the file's stem where the form holds none.
        unix_s: start of each interval (n,), s since 1970 UTC, ascending.
        step_s: usual length of an interval, s.
        carbon_g_per_kwh: measured average intensity (n,), NaN where not measured (or only forecast).
        forecast_g_per_kwh: what had been forecast for the interval (n,), or None: never the same signal.
        estimated: marked by the source as estimated instead of measured (n,).
        estimated_stated: whether the source says so at all; where it does not, ``estimated`` is all False.
        low_carbon_pct: share of low-carbon power (n,), percent, or None.
        factors: emission factors of the intensity; life-cycle and direct must never meet in one sum.
    """

    file: str
    form: str
    zone: str
    unix_s: F64
    step_s: float
    carbon_g_per_kwh: F64
    forecast_g_per_kwh: F64 | None
    estimated: npt.NDArray[np.bool_]
    estimated_stated: bool
    low_carbon_pct: F64 | None
    factors: Factors

    def truth(self) -> Signal:
        """The measured intensity over unix time, g/kWh.

        Raises:
            InputError: the file holds forecasts only.
        """
        if np.isnan(self.carbon_g_per_kwh).all():
            raise InputError(
                f"{self.file}: no measured intensity, forecasts only. Use forecast(), knowingly."
            )
        return Signal(f"{self.file} carbon", "g/kWh", self.unix_s, self.carbon_g_per_kwh, self.step_s)

    def forecast(self) -> Signal:
        """The forecast intensity over unix time, g/kWh.

        Raises:
            InputError: the file holds no forecast.
        """
        if self.forecast_g_per_kwh is None:
            raise InputError(f"{self.file}: a {self.form} file holds no forecast.")
        return Signal(f"{self.file} forecast", "g/kWh", self.unix_s, self.forecast_g_per_kwh, self.step_s)


@dataclass(frozen=True, eq=False)
class NetworkTrace(_ReadOnly):
    """One access link, a row per second. NaN where not measured.

    Attributes:
        file: where it was read.
        time_s: second within the file (n,), ascending.
        step_s: usual distance of the rows, s.
        segment: piece of uninterrupted recording (n,); real time jumps where it changes.
        unix_s: wall clock (n,), s since 1970 UTC.
        rtt_ms: mean round-trip time of the replies in that second (n,), ms; NaN where none came.
        rtt_max_ms: slowest reply of that second (n,), ms.
        loss_pct: probes without a reply (n,), percent.
        down_mbps: available or achieved download throughput (n,), Mbit/s.
        up_mbps: the same upwards (n,), Mbit/s.
    """

    file: str
    time_s: F64
    step_s: float
    segment: npt.NDArray[np.int64]
    unix_s: F64
    rtt_ms: F64
    rtt_max_ms: F64
    loss_pct: F64
    down_mbps: F64
    up_mbps: F64

    def signal(self, column: str) -> Signal:
        """One of the measured columns over ``time_s``, in the unit of its name."""
        known = ("rtt_ms", "rtt_max_ms", "loss_pct", "down_mbps", "up_mbps")
        if column not in known:
            raise InputError(f"{self.file}: no signal '{column}'. Known: {', '.join(known)}.")
        unit = {"ms": "ms", "pct": "%", "mbps": "Mbit/s"}[column.rpartition("_")[2]]
        return Signal(f"{self.file} {column}", unit, self.time_s, getattr(self, column), self.step_s)


@dataclass(frozen=True, eq=False)
class ArrivalTrace(_ReadOnly):
    """Request arrivals, either one row per request or one row per window of time.

    Attributes:
        file: where it was read.
        kind: "per_request" or "rate".
        time_s: time of each request, or start of each window (n,), s; requests may share one.
        step_s: length of a window, s; NaN for per-request files.
        input_tokens: request size (n,), tokens, or None.
        output_tokens: reply size (n,), tokens, or None.
        rate_req_per_s: mean rate in the window (n,), NaN in a gap of the recording, or None.
        burst_cv: coefficient of variation of the times between requests (n,), or None.
        active_clients: clients with a rate above zero (n,), or None.
    """

    file: str
    kind: Literal["per_request", "rate"]
    time_s: F64
    step_s: float
    input_tokens: F64 | None = None
    output_tokens: F64 | None = None
    rate_req_per_s: F64 | None = None
    burst_cv: F64 | None = None
    active_clients: F64 | None = None

    def request_times_s(self) -> F64:
        """Times of single requests (n,), s.

        Raises:
            InputError: this is a rate file, whose rows are windows, not requests.
        """
        if self.kind != "per_request":
            raise InputError(
                f"{self.file}: its rows are rates of {self.step_s:g} s windows, not single requests."
            )
        return self.time_s

    def rate(self) -> Signal:
        """The mean request rate over ``time_s``, 1/s.

        Raises:
            InputError: this is a per-request file.
        """
        if self.rate_req_per_s is None:
            raise InputError(f"{self.file}: its rows are single requests, not rates.")
        return Signal(f"{self.file} rate", "1/s", self.time_s, self.rate_req_per_s, self.step_s)
