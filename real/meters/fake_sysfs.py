"""A fake /sys with power monitors as boards have them, for tests and demonstrations without a board.

Values are of public dumps: GPU_SOC and CPU_CV are measured on the input of about 19 V, the others at 5 V.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

from .attributes import read_attribute

AGX_ORIN = {  # chip address: channels as (label, mV, mA)
    "1-0040": (("VDD_GPU_SOC", 19120, 270), ("VDD_CPU_CV", 19120, 162), ("VIN_SYS_5V0", 4968, 880)),
    "1-0041": (("NC", None, None), ("VDDQ_VDD2_1V8AO", 4968, 240), ("NC", None, None)),
}
ORIN_NX = {"1-0040": (("VDD_IN", 5048, 1096), ("VDD_CPU_GPU_CV", 5040, 160), ("VDD_SOC", 5040, 296))}
DRIVERS, DEVICES = "drivers", "devices"  # the two paths that lead to a chip


class FakeSysfs:
    """Builds the tree, changes it, and makes attributes fail.

    `read` stands for `read_attribute` wherever a meter takes a ``read``: it fails as told and counts what is open.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reads: Counter[Path] = Counter()
        self._failing: dict[Path, tuple[int, float]] = {}
        self._channels: dict[str, tuple[Path, int]] = {}

    def jetson(
        self, board: dict = AGX_ORIN, layouts: tuple[str, ...] = (DRIVERS, DEVICES), first_hwmon: int = 3
    ) -> FakeSysfs:
        """Add a board's monitors under either path or both; reading a channel that is not connected gives EIO."""
        for number, (address, channels) in enumerate(board.items(), first_hwmon):
            device = self.root / "sys/devices/platform/c240000.i2c/i2c-1" / address
            folder = device / "hwmon" / f"hwmon{number}"
            _write(folder / "name", "ina3221")
            _write(folder / "samples", "64")
            _write(folder / "in7_label", "sum of shunt voltages")
            _write(folder / "in7_input", "12345")
            for channel, (label, voltage_mv, current_ma) in enumerate(channels, 1):
                self._add_channel(folder, channel, label, voltage_mv, current_ma)
            for layout in layouts:
                bus = self.root / "sys/bus/i2c" / (DEVICES if layout == DEVICES else "drivers/ina3221")
                bus.mkdir(parents=True, exist_ok=True)
                (bus / address).symlink_to(device)
        return self

    def rapl(
        self, packages: int = 1, energy_uj: int = 1_000_000, range_uj: int = 262_143_328_850
    ) -> FakeSysfs:
        """Add processors, each with its core and memory zone, and the zones that repeat them."""
        for package in range(packages):
            zone = f"intel-rapl:{package}"
            self.add_zone(zone, f"package-{package}", energy_uj, range_uj)
            self.add_zone(f"{zone}:0", "core", energy_uj // 2, range_uj)
            self.add_zone(f"{zone}:1", "dram", energy_uj // 4, range_uj)
        self.add_zone(f"intel-rapl:{packages}", "psys", 3 * energy_uj, range_uj)
        self.add_zone("intel-rapl-mmio:0", "package-0", energy_uj, range_uj)
        return self

    def add_zone(self, zone: str, name: str, energy_uj: int, range_uj: int) -> None:
        """Add one powercap zone."""
        folder = self.root / "sys/class/powercap" / zone
        _write(folder / "name", name)
        _write(folder / "energy_uj", str(energy_uj))
        _write(folder / "max_energy_range_uj", str(range_uj))

    def counter(self, zone: str = "intel-rapl:0") -> Path:
        """The counter of a zone."""
        return self.root / "sys/class/powercap" / zone / "energy_uj"

    def set_counter(self, energy_uj: int, zone: str = "intel-rapl:0") -> None:
        """Let a zone's counter stand at a value."""
        _write(self.counter(zone), str(energy_uj))

    def attribute(self, label: str, kind: str = "current") -> Path:
        """A rail's attribute: its ``current``, ``voltage`` or ``label``."""
        folder, channel = self._channels[label]
        names = {
            "current": f"curr{channel}_input",
            "voltage": f"in{channel}_input",
            "label": f"in{channel}_label",
        }
        return folder / names[kind]

    def set_rail(self, label: str, voltage_mv: int, current_ma: int) -> None:
        """Let a rail read these values."""
        _write(self.attribute(label, "voltage"), str(voltage_mv))
        _write(self.attribute(label), str(current_ma))

    def fail(self, path: Path, error: int = errno.EIO, times: float = float("inf")) -> None:
        """Let the next ``times`` readings of an attribute fail (`errno.EIO`, `errno.EACCES`)."""
        self._failing[path.resolve()] = (error, times)

    def read(self, path: Path) -> str:
        """`read_attribute`, failing as told."""
        real = path.resolve()
        self.reads[real] += 1
        error, times = self._failing.get(real, (0, 0))
        if times > 0:
            self._failing[real] = (error, times - 1)
            raise OSError(error, os.strerror(error), str(path))
        return read_attribute(path)

    def _add_channel(
        self, folder: Path, channel: int, label: str, voltage_mv: int | None, current_ma: int | None
    ) -> None:
        _write(folder / f"in{channel}_label", label)
        if voltage_mv is None or current_ma is None:
            for name in (f"in{channel}_input", f"curr{channel}_input"):
                (folder / name).symlink_to(
                    "/proc/self/mem"
                )  # its first byte cannot be read: EIO, as on a board
            return
        self._channels[label] = (folder, channel)
        self.set_rail(label, voltage_mv, current_ma)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
