"""Whether the device runs slowed down: seen from its own service times, and from the kernel where that tells."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ...envs.schema import Throttling

# The device counts as throttled while its smoothed service time is beyond this share of the way from the calibrated
# time to the throttled one, and until it is back below the lower share. Assumed: far enough apart for noise.
ON_SHARE, OFF_SHARE = 0.6, 0.3
WEIGHT = 0.3  # of the newest service time in the smoothed one; assumed, as for probes

# Cooling devices of the kernel that take speed, not fans; part of their `type`.
_SPEED = ("cpufreq", "devfreq", "processor", "cpu-", "gpu")


class Throttle(Protocol):
    """Tells whether the device is throttled."""

    def served(self, now_ms: float, service_ms: float, calibrated_ms: float) -> None:
        """A request was computed on the device."""
        ...

    def look(self) -> None:
        """Ask the kernel; off the request path."""
        ...

    def throttled(self, now_ms: float) -> bool:
        """As far as is known now; never waits."""
        ...


class MeasuredThrottle:
    """From measured service times, with hysteresis.

    Without a request on the device for one thermal time constant, what was measured is forgotten: it has cooled down.

    Args:
        spec: the site's throttling; None: the device never throttles.
        sysfs: the kernel's ``/sys``, whose cooling devices are asked as well; None: not.
    """

    def __init__(self, spec: Throttling | None, sysfs: Path | None = None) -> None:
        """Start with a cool device."""
        extra = 0.0 if spec is None else spec.slowdown - 1.0
        self._on, self._off = 1.0 + ON_SHARE * extra, 1.0 + OFF_SHARE * extra
        self._kept_ms = 0.0 if spec is None else spec.time_constant_s * 1000.0
        self._can = extra > 0.0
        self._sysfs, self._kernel = sysfs, False
        self.ratio = 1.0
        self._served_ms, self._hot = -float("inf"), False

    def served(self, now_ms: float, service_ms: float, calibrated_ms: float) -> None:
        """Take in a service time and the one that was calibrated, both of one request alone."""
        self._forget(now_ms)
        self.ratio += WEIGHT * (service_ms / calibrated_ms - self.ratio)
        self._served_ms = now_ms
        if self.ratio > self._on:
            self._hot = True
        elif self.ratio < self._off:
            self._hot = False

    def look(self) -> None:
        """Ask the kernel's cooling devices."""
        self._kernel = self._sysfs is not None and bool(cooling(self._sysfs))

    def throttled(self, now_ms: float) -> bool:
        """As far as is known now."""
        if self._hot:
            self._forget(now_ms)
        return self._can and (self._hot or self._kernel)

    def _forget(self, now_ms: float) -> None:
        if now_ms - self._served_ms > self._kept_ms:
            self.ratio, self._hot = 1.0, False


def cooling(sysfs: Path) -> bool | None:
    """Whether a cooling device of the kernel takes speed from processor or GPU now; None if it has none."""
    states = []
    for folder in sorted((sysfs / "class" / "thermal").glob("cooling_device*")):
        try:
            kind = (folder / "type").read_text().strip().lower()
            state = int((folder / "cur_state").read_text())
        except (OSError, ValueError):
            continue  # a channel that does not answer says nothing
        if any(word in kind for word in _SPEED):
            states.append(state > 0)
    return any(states) if states else None
