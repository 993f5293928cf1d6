"""Power of a Jetson from the lines of NVIDIA's tegrastats: a second source, to check the rails' sysfs files with.

A line holds ``RAIL <now>mW/<average>mW``, from JetPack 7.2 on with a third value. The average is over the time since
tegrastats started, not over an interval, so only the first value may be integrated.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..clock import Clock, SystemClock
from .jetson_rails import COMPUTE_SETS, MODULE_SETS
from .meter import MeterError, Sample, Scope

NAME = "tegrastats"
_RAIL = re.compile(r"(?<!\S)((?:VDD|VIN|POM|NC)[A-Z0-9_]*) (\d+)mW/(\d+)mW(?:/\d+mW)?(?!\S)")


def parse_line(line: str) -> dict[str, float]:
    """Power of each rail at the moment of the line, W.

    Raises:
        MeterError: the line names no rail, or one twice.
    """
    power_w: dict[str, float] = {}
    for label, now_mw, _ in _RAIL.findall(line):
        if label == "NC":
            continue
        if label in power_w:
            raise MeterError(f"Meter {NAME}: a line names {label} twice: {line.strip()[:200]!r}.")
        power_w[label] = int(now_mw) / 1000
    if not power_w:
        raise MeterError(
            f"Meter {NAME}: no rail with mW in the line {line.strip()[:200]!r}. This board's tegrastats reports no "
            "power, or the line was cut; use the rails in sysfs."
        )
    return power_w


class Tegrastats:
    """The sum of some rails, W, from lines that arrive one by one; `sample` waits for the next line.

    A line's own time is whole seconds of the calendar, so a sample's time is when its line arrived. Read it from a
    `SamplerThread`, never from the path of a request.

    Args:
        lines: lines of a running tegrastats, or recorded ones.
        rails: ``module``, ``compute``, or labels to add up.
        process: ended on `close`.
    """

    name = NAME

    def __init__(
        self,
        lines: Iterator[str],
        rails: str | Sequence[str] = "module",
        clock: Clock | None = None,
        process: subprocess.Popen[str] | None = None,
    ) -> None:
        if isinstance(rails, str) and rails not in ("module", "compute"):
            raise MeterError(
                f"Meter {NAME}: rails must be 'module', 'compute' or a list of labels, got '{rails}'."
            )
        self._lines, self._rails = lines, rails
        self._clock, self._process = clock or SystemClock(), process
        self.scope = Scope.DEVICE_MODULE if rails == "module" else Scope.SOC_PART

    @classmethod
    def start(cls, interval_ms: int = 500, rails: str | Sequence[str] = "module") -> Tegrastats:
        """Start the program.

        Raises:
            MeterError: it is not there.
        """
        command = ["tegrastats", "--interval", str(interval_ms)]
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # closed by `close`
        except OSError as err:
            raise MeterError(
                f"Meter {NAME}: cannot start '{' '.join(command)}' ({err.strerror}). It comes with JetPack; "
                "in a container mount /usr/bin/tegrastats."
            ) from err
        assert process.stdout is not None
        return cls(process.stdout, rails, process=process)

    def sample(self) -> Sample:
        """The next line's power."""
        line = next(self._lines, None)
        if line is None:
            raise MeterError(f"Meter {NAME} ended: no more lines. Start it again, or use the rails in sysfs.")
        time_s, parts = self._clock.monotonic_s(), parse_line(line)
        return Sample(time_s, power_w=sum(parts[label] for label in self._summed(parts)), parts=parts)

    def close(self) -> None:
        """End the program."""
        process, self._process = self._process, None
        self._lines = iter(())
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        if process.returncode is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _summed(self, parts: dict[str, float]) -> Sequence[str]:
        choices = {"module": MODULE_SETS, "compute": COMPUTE_SETS}
        sets = choices[self._rails] if isinstance(self._rails, str) else (tuple(self._rails),)
        for labels in sets:
            if set(labels) <= set(parts):
                return labels
        raise MeterError(
            f"Meter {NAME}: the rails to add up ({self._rails}) are not in the line, which has {', '.join(parts)}."
        )
