"""A recorded grid trace as a feed: its hours pass at the pace of the clock, from a moment chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from ...envs.errors import InputError
from ...envs.traces.readers import read_grid
from ...envs.traces.records import GridTrace
from ..clock import Clock, SystemClock
from .checks import Answer
from .reading import Kind, Reading


class CsvReplay:
    """Zones read from files of any form that `carbonpilot traces check` knows; average intensity.

    The readings' times are those of the replay (now), the recording's own are in their notes.
    """

    name = "csv-replay"
    kind: Kind = "average"
    offline = True

    def __init__(
        self,
        files: Mapping[str, str | Path],
        clock: Clock | None = None,
        *,
        start: datetime | None = None,
        zero_is_real: bool = False,
    ) -> None:
        """Read the files.

        Args:
            files: file per zone.
            clock: its monotonic time drives the replay.
            start: moment of the recordings that is "now", with time zone; their latest common start if None.
            zero_is_real: accept values below 1 g/kWh.

        Raises:
            InputError: no file, ``start`` without time zone or outside a recording.
            TraceError: a file is broken.
        """
        if not files:
            raise InputError("csv-replay needs a file for at least one zone.")
        if start is not None and start.tzinfo is None:
            raise InputError(f"csv-replay: start {start} has no time zone; write it as 2022-01-01T00:00:00Z.")
        self.clock: Clock = clock or SystemClock()
        self.zero_is_real = zero_is_real
        self._traces = {zone: _checked(zone, read_grid(path)) for zone, path in files.items()}
        first_s = max(trace.unix_s[0] for trace in self._traces.values())
        self._start_s = first_s if start is None else start.timestamp()
        self._zero_s = self.clock.monotonic_s()
        for trace in self._traces.values():
            if not trace.unix_s[0] <= self._start_s < trace.unix_s[-1] + trace.step_s:
                span = f"{_utc(trace.unix_s[0])} to {_utc(trace.unix_s[-1] + trace.step_s)}"
                raise InputError(
                    f"{trace.file} covers {span}; the replay cannot start at {_utc(self._start_s)}."
                )
        self.stale_after_s = 2 * max(trace.step_s for trace in self._traces.values())

    def fetch(self, zone: str) -> Reading:
        """The recording's interval that now lies in."""
        answer = Answer(self.name, zone, self.zero_is_real)
        if zone not in self._traces:
            known = ", ".join(sorted(self._traces))
            raise answer.error(
                "not-covered", f"no file for this zone; there are files for {known}", "Give one"
            )
        trace, monotonic_s = self._traces[zone], self.clock.monotonic_s()
        at_s = self._start_s + monotonic_s - self._zero_s
        row = int(np.searchsorted(trace.unix_s, at_s, side="right")) - 1
        into_s = at_s - float(trace.unix_s[row])
        if into_s >= trace.step_s:
            ended = row == len(trace.unix_s) - 1
            said = f"the recording {'has ended' if ended else 'has a gap'} at {_utc(at_s)}"
            raise answer.error("not-covered", said, "Use a longer recording, or start elsewhere")
        value = float(trace.carbon_g_per_kwh[row])
        if math.isnan(value):
            raise answer.error(
                "not-covered", f"nothing was measured at {_utc(at_s)}", "Use another recording"
            )
        now = self.clock.utc()
        return Reading(
            zone=zone,
            carbon_g_per_kwh=answer.carbon(value, "the recorded intensity"),
            kind="average",
            measured_at=now - timedelta(seconds=into_s),
            received_monotonic_s=monotonic_s,
            received_at=now,
            age_when_received_s=into_s,
            estimated=bool(trace.estimated[row]),
            source=self.name,
            factors=trace.factors,
            note=f"{Path(trace.file).name} at {_utc(trace.unix_s[row])}",
        )

    def cancel(self) -> None:
        """Nothing here waits."""

    def close(self) -> None:
        """Nothing is held open."""


def _checked(zone: str, trace: GridTrace) -> GridTrace:
    """The trace, if it is of the zone; our own CSV form names none."""
    trace.truth()  # refuses a file that holds forecasts only
    if trace.form != "grid-csv" and trace.zone != zone:
        raise InputError(
            f"{trace.file} is of zone {trace.zone!r}, not of {zone!r}. Name the zone as the file does."
        )
    return trace


def _utc(unix_s: float) -> str:
    return datetime.fromtimestamp(float(unix_s), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
