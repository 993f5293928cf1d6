"""Energy of a host's processors from RAPL counters (powercap), Intel and AMD."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..clock import Clock, SystemClock
from .attributes import Read, read_attribute, read_integer, read_retrying
from .meter import MeterError, Sample, Scope

NAME = "rapl"
POWERCAP = "sys/class/powercap"
# A package above this cannot be bought; between two samples it must not count its range once round.
MOST_W = 1000.0
MEND = (
    "Linux keeps RAPL for root (CVE-2020-8694). Run 'sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj', "
    "and make it last with a udev rule or tmpfiles.d line (docs/meters.md)."
)


@dataclass
class _Zone:
    """A counter that starts again at 0 after its range."""

    label: str
    counter: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def advance(self, now_uj: int) -> None:
        """Add what was counted since the last reading; less than before means that the range was passed."""
        step_uj = now_uj - self.last_uj
        self.total_uj += step_uj if step_uj >= 0 else step_uj + self.range_uj
        self.last_uj = now_uj


class Rapl:
    """Energy of all packages since this meter was made, J; each zone is in the sample's parts.

    The sum holds packages, and memory zones where ``memory`` is true: a package's counter does not hold the memory of
    a server. Zones core and uncore are parts of their package, psys overlaps all of them, and intel-rapl-mmio is the
    same package seen another way; none of these is added.

    Args:
        root: where sys lies; another folder for a fake tree.
        memory: whether to add memory zones.

    Raises:
        MeterError: no package, or no permission.
    """

    name = NAME
    scope = Scope.CPU_PACKAGE

    def __init__(
        self,
        root: Path | str = "/",
        memory: bool = True,
        clock: Clock | None = None,
        read: Read = read_attribute,
    ) -> None:
        self._clock, self._read = clock or SystemClock(), read
        folders = zones(Path(root), read)
        if not any(label.startswith("package") for label in folders):
            raise MeterError(
                f"Meter {NAME}: no package below {Path(root) / POWERCAP}. This processor has no RAPL (ARM, many "
                "virtual machines), or the module is not loaded: 'sudo modprobe intel_rapl_msr'."
            )
        self._zones = [
            self._open(label, folder)
            for label, folder in folders.items()
            if memory or not label.endswith("/dram")
        ]
        self._last_s = self._clock.monotonic_s()
        self._closed = False

    @property
    def longest_interval_s(self) -> float:
        """Samples further apart than this could miss a whole turn of a counter."""
        return min(zone.range_uj for zone in self._zones) * 1e-6 / MOST_W

    def sample(self) -> Sample:
        """Read all counters.

        Raises:
            MeterError: a counter cannot be read, or too much time has passed since the last sample to know how often it
                started again. The meter goes on from here, so the next sample is good; what was between is lost.
        """
        if self._closed:
            raise MeterError(f"Meter {NAME} was closed; make a new one.")
        readings = [self._counter_uj(zone) for zone in self._zones]
        time_s = self._clock.monotonic_s()
        passed_s, self._last_s = time_s - self._last_s, time_s
        if passed_s > self.longest_interval_s:
            for zone, now_uj in zip(self._zones, readings, strict=True):
                zone.last_uj = now_uj
            raise MeterError(
                f"Meter {NAME}: {passed_s:.0f} s since the last sample, in which a counter may have started again more "
                f"than once. Sample at least every {self.longest_interval_s:.0f} s."
            )
        for zone, now_uj in zip(self._zones, readings, strict=True):
            zone.advance(now_uj)
        parts = {zone.label: zone.total_uj * 1e-6 for zone in self._zones}
        return Sample(time_s, energy_j=sum(parts.values()), parts=parts)

    def close(self) -> None:
        """Nothing is held open between samples."""
        self._closed = True

    def _open(self, label: str, folder: Path) -> _Zone:
        range_uj = read_integer(NAME, folder / "max_energy_range_uj", self._read, MEND)
        if range_uj <= 0:
            raise MeterError(
                f"Meter {NAME}: {folder}/max_energy_range_uj is {range_uj}, expected more than 0."
            )
        zone = _Zone(label, folder / "energy_uj", range_uj, 0)
        zone.last_uj = self._counter_uj(zone)
        return zone

    def _counter_uj(self, zone: _Zone) -> int:
        now_uj = read_integer(NAME, zone.counter, self._read, MEND)
        if not 0 <= now_uj <= zone.range_uj:
            raise MeterError(
                f"Meter {NAME}: {zone.counter} is {now_uj}, outside 0 to {zone.range_uj} of max_energy_range_uj."
            )
        return now_uj


def zones(root: Path, read: Read = read_attribute) -> dict[str, Path]:
    """Folders of packages and of their memory by label, such as ``package-0`` and ``package-0/dram``."""
    found: dict[str, Path] = {}
    for folder in sorted((root / POWERCAP).glob("intel-rapl:*")):
        parent, label = folder.with_name(folder.name.rpartition(":")[0]), _label(folder, read)
        if label.startswith("package"):
            found[label] = folder
        elif label == "dram":
            found[f"{_label(parent, read)}/dram"] = folder
    return found


def _label(folder: Path, read: Read) -> str:
    try:
        return read_retrying(folder / "name", read)
    except OSError:
        return ""
