"""Samples a meter in the background, so that nothing on the path of a request ever waits for one."""

from __future__ import annotations

import math
import threading
from collections import deque

from ..clock import Clock, SystemClock
from .meter import Meter, MeterError, Sample
from .windows import WindowIntegrator


class SamplerThread:
    """Reads a meter at a rate until it is stopped.

    Readers take what has come in; they wait for nothing but the exchange of two lists. Samples that nobody takes are
    dropped, oldest first, and counted. A meter that fails is tried again at the next turn; its silence then shows as a
    gap in the integrator.

    Args:
        meter: the meter; `stop` closes it.
        rate_hz: samples a second.
        capacity: samples to hold for the reader.
        clock: tells when a sample is due.

    Attributes:
        late: samples that began more than one period after they were due.
        skipped: turns left out because the meter was busy with earlier ones.
        dropped: samples lost because nobody took them.
        failures: turns at which the meter failed.
        last_error: the latest of these failures.
    """

    def __init__(
        self, meter: Meter, rate_hz: float, capacity: int = 10_000, clock: Clock | None = None
    ) -> None:
        if not (math.isfinite(rate_hz) and rate_hz > 0 and capacity >= 1):
            raise MeterError(
                f"Meter {meter.name}: the rate must be above 0 and the capacity at least 1, got {rate_hz} Hz and "
                f"{capacity}."
            )
        self.meter, self.period_s = meter, 1 / rate_hz
        self.late = self.skipped = self.dropped = self.failures = 0
        self.last_error: Exception | None = None
        self._clock = clock or SystemClock()
        self._capacity = capacity
        self._waiting: deque[Sample] = deque(maxlen=capacity)
        self._exchange = (
            threading.Lock()
        )  # held for one append or one exchange, never while the meter is read
        self._stopping = threading.Event()
        self._due_s = self._clock.monotonic_s()
        self._thread: threading.Thread | None = None

    def start(self) -> SamplerThread:
        """Begin; returns itself."""
        if self._thread is not None:
            raise MeterError(f"Meter {self.meter.name} is sampled already.")
        if self._stopping.is_set():
            raise MeterError(f"Meter {self.meter.name} was stopped; make a new sampler.")
        self._due_s = self._clock.monotonic_s()
        self._thread = threading.Thread(
            target=self._run, name=f"carbonpilot-meter-{self.meter.name}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread and close the meter; what was sampled can still be taken.

        Raises:
            MeterError: the meter hangs, so that its thread cannot end.
        """
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():
                self._thread = thread
                raise MeterError(
                    f"Meter {self.meter.name} hangs: reading it has not returned within {timeout_s:g} s. Its driver or "
                    "bus is stuck; 'dmesg' says why."
                )
        self.meter.close()

    def __enter__(self) -> SamplerThread:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def take(self) -> list[Sample]:
        """All samples since the last call, in order."""
        fresh: deque[Sample] = deque(maxlen=self._capacity)
        with self._exchange:
            taken, self._waiting = self._waiting, fresh
        return list(taken)

    def take_into(self, integrator: WindowIntegrator) -> int:
        """Hand all new samples to an integrator; returns how many.

        Raises:
            MeterError: one cannot be; the others were handed over all the same.
        """
        refused: MeterError | None = None
        taken = self.take()
        for sample in taken:
            try:
                integrator.add(sample)
            except MeterError as err:
                refused = refused or err
        if refused is not None:
            raise refused
        return len(taken)

    def step(self) -> float:
        """Take the sample if it is due; returns seconds until the next one is.

        The thread lives by this; a test may call it with a clock of its own instead of starting the thread.
        """
        began_s = self._clock.monotonic_s()
        if began_s < self._due_s:
            return self._due_s - began_s
        self.late += began_s - self._due_s > self.period_s
        self._sample()
        now_s = self._clock.monotonic_s()
        turns = max(1, math.ceil((now_s - self._due_s) / self.period_s))  # never a burst to catch up
        self.skipped += turns - 1
        self._due_s += turns * self.period_s
        return max(0.0, self._due_s - now_s)

    def _sample(self) -> None:
        try:
            sample = self.meter.sample()
        except Exception as err:  # whatever a driver throws must not end the thread unseen
            self.failures += 1
            self.last_error = err
            return
        with self._exchange:
            self.dropped += len(self._waiting) == self._capacity
            self._waiting.append(sample)

    def _run(self) -> None:
        while not self._stopping.wait(self.step()):
            pass
