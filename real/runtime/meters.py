"""The meters of a run: windows for the log, and how far the device's calibrated energy is right today."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from ...envs.errors import unknown_name
from ...envs.schema import Scenario
from ..clock import Clock
from ..log_records import EnergyRecord, Record
from ..meters.jetson_rails import JetsonRails
from ..meters.meter import Meter, MeterError
from ..meters.nvml import Nvml
from ..meters.rapl import Rapl
from ..meters.request_energy import RequestEnergyModel, TimedRequest
from ..meters.sampler import SamplerThread
from ..meters.windows import IdleBaseline, WindowEnergy, WindowIntegrator
from .accounts import device_energy_j

RATE_HZ = 10.0
WINDOW_S = 10.0
SETTLE_S = 1.0  # after a window's end, until its last samples have come in
MAX_GAP_S = 0.5  # five sample intervals
ON_THE_DEVICE = ("jetson-rails", "rapl")  # meters whose scope is the device's own computing
_MAKERS: dict[str, Callable[[], Meter]] = {"jetson-rails": JetsonRails, "rapl": Rapl, "nvml": Nvml}

log = logging.getLogger(__name__)


def make_meter(name: str) -> Meter:
    """The meter of a site file's name.

    Raises:
        MeterError: it is missing or forbidden, with the mend.
    """
    if name not in _MAKERS:
        raise unknown_name("meter", name, _MAKERS)
    return _MAKERS[name]()


class Meters:
    """Samples meters and closes a window of each every ten seconds.

    The first meter of the device corrects the calibrated energy of its frames. Its idle baseline is the site's
    calibrated idle power.

    Args:
        meters: by name, opened.
        scenario: the site's.
        clock, began_s: time, and when the run began.
        put: takes records.
    """

    def __init__(
        self,
        meters: dict[str, Meter],
        scenario: Scenario,
        clock: Clock,
        began_s: float,
        put: Callable[[Record], None],
    ) -> None:
        self._clock, self._began_s, self._put = clock, began_s, put
        self._device = next((name for name in meters if name in ON_THE_DEVICE), None)
        here = {p.name: device_energy_j(p) for p in scenario.placements}
        joules = {(name, ""): value for name, value in here.items() if value > 0}
        self._model = RequestEnergyModel(joules) if self._device is not None and joules else None
        self._samplers = {name: SamplerThread(meter, RATE_HZ, clock=clock) for name, meter in meters.items()}
        self._integrators = {name: WindowIntegrator(name, MAX_GAP_S, keep=600) for name in meters}
        if self._device is not None:
            idle_w = scenario.device.idle_power_w
            self._integrators[self._device].idle = IdleBaseline(idle_w, idle_w, idle_w, began_s, began_s)
        self._requests: deque[TimedRequest] = deque(maxlen=10_000)
        self._window_s = clock.monotonic_s()
        self._silent: dict[str, str] = {}

    def start(self) -> None:
        """Begin to sample."""
        for sampler in self._samplers.values():
            sampler.start()
        self._window_s = self._clock.monotonic_s() + 2 / RATE_HZ

    def stop(self) -> None:
        """End; a meter that hangs is told of."""
        for name, sampler in self._samplers.items():
            try:
                sampler.stop(2.0)
            except MeterError as err:
                log.error("%s: %s", name, err)

    @property
    def correction(self) -> float:
        """Measured over calibrated energy of the device's frames; 1 without a meter."""
        return 1.0 if self._model is None else self._model.correction.factor

    @property
    def basis(self) -> str:
        """Where the joules of the next frame come from, for its record."""
        if self._model is None or self._model.correction.windows == 0:
            return "calibrated"
        return f"calibrated and corrected by {self._device}"

    @property
    def silent(self) -> dict[str, str]:
        """Meters that give nothing, and why."""
        return dict(self._silent)

    def note(self, placement: str, start_s: float, end_s: float) -> None:
        """The device computed a frame; from any thread."""
        if self._model is not None and end_s > start_s:
            self._requests.append(TimedRequest(placement, "", start_s, end_s))

    def look(self, now_s: float) -> None:
        """Take in samples, and close the window that is over; for one thread, off the request path."""
        for name, sampler in self._samplers.items():
            try:
                sampler.take_into(self._integrators[name])
            except MeterError as err:
                self._note(name, str(err))
        end_s = self._window_s + WINDOW_S
        if now_s < end_s + SETTLE_S:
            return
        for name in self._samplers:
            self._close(name, self._window_s, end_s)
        self._window_s = end_s if now_s < end_s + 2 * WINDOW_S else now_s
        while self._requests and self._requests[0].end_s < self._window_s:
            self._requests.popleft()

    def _close(self, name: str, start_s: float, end_s: float) -> None:
        try:
            window = self._integrators[name].energy(start_s, end_s)
        except MeterError as err:
            self._note(name, str(err))
            return
        self._silent.pop(name, None)
        if name == self._device:
            self._learn(window)
        gaps_s = sum(end - start for start, end in window.gaps_s)
        correction = None if name != self._device or self._model is None else self.correction
        self._put(
            EnergyRecord(
                meter=name,
                scope=self._samplers[name].meter.scope.value,
                start_ms=(start_s - self._began_s) * 1000,
                end_ms=(end_s - self._began_s) * 1000,
                gross_j=window.gross_j,
                idle_j=window.idle_j,
                net_j=None if window.idle_j is None else window.net_j,
                gaps_s=float(gaps_s),
                correction=correction,
            )
        )

    def _learn(self, window: WindowEnergy) -> None:
        """A window with gaps says nothing about the frames in it."""
        if self._model is not None and not window.gaps_s:
            inside: Sequence[TimedRequest] = [
                r for r in list(self._requests) if r.end_s > window.start_s and r.start_s < window.end_s
            ]
            self._model.attribute(window, inside)

    def _note(self, name: str, why: str) -> None:
        if name not in self._silent:
            log.error("%s", why)
        self._silent[name] = why
