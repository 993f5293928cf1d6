"""Power of a Jetson module from its INA3221 monitors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...envs.errors import nearest
from ..clock import Clock, SystemClock
from . import ina3221
from .attributes import Read, read_attribute, read_integer
from .meter import MeterError, Sample, Scope

# NVIDIA names no rail that is the total of an AGX Orin. Whether VIN_SYS_5V0 holds VDDQ_VDD2_1V8AO is unsettled, so
# the sets leave it out; it is in every sample's parts. On Orin NX and Nano VDD_IN is the module.
MODULE_SETS = (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
COMPUTE_SETS = (("VDD_GPU_SOC", "VDD_CPU_CV"), ("VDD_CPU_GPU_CV", "VDD_SOC"))
# One step of the shunt voltage is 40 uV: 20 mA over the 2 mOhm of AGX Orin. Two steps below 0 are noise.
NOISE_MA = 40


class JetsonRails:
    """The sum of some rails, W; every rail is in the sample's parts.

    Args:
        root: where sys lies; another folder for a fake tree.
        rails: ``module``, ``compute``, or labels to add up.
        clock: gives each sample its time, the middle of the reading.
        read: reads an attribute; fakes fail here.

    Raises:
        MeterError: no monitor, no such rail, or no permission.
    """

    def __init__(
        self,
        root: Path | str = "/",
        rails: str | Sequence[str] = "module",
        clock: Clock | None = None,
        read: Read = read_attribute,
    ) -> None:
        self._clock, self._read = clock or SystemClock(), read
        found = ina3221.find_rails(Path(root), read)
        if not found.rails:
            raise MeterError(_nothing_found(Path(root), found))
        self._rails, self.skipped = found.rails, found.skipped
        self.summed = _chosen(rails, tuple(found.rails), found)
        self.scope = Scope.DEVICE_MODULE if rails == "module" else Scope.SOC_PART
        self._closed = False

    @property
    def name(self) -> str:
        """Name with the rails that are added up."""
        return f"{ina3221.NAME}({'+'.join(self.summed)})"

    @property
    def labels(self) -> tuple[str, ...]:
        """All rails that can be read."""
        return tuple(self._rails)

    def sample(self) -> Sample:
        """Read all rails now; the chip itself averages over its ``samples`` and ``update_interval``."""
        if self._closed:
            raise MeterError(f"Meter {self.name} was closed; make a new one.")
        before = self._clock.monotonic_s()
        parts = {label: self._power_w(rail) for label, rail in self._rails.items()}
        time_s = (before + self._clock.monotonic_s()) / 2
        return Sample(time_s, power_w=sum(parts[label] for label in self.summed), parts=parts)

    def close(self) -> None:
        """Nothing is held open between samples."""
        self._closed = True

    def _power_w(self, rail: ina3221.Rail) -> float:
        voltage_mv = read_integer(self.name, rail.voltage_mv, self._read, ina3221.MEND)
        current_ma = read_integer(self.name, rail.current_ma, self._read, ina3221.MEND)
        if voltage_mv < 0 or current_ma < -NOISE_MA:
            raise MeterError(
                f"Meter {self.name}: rail {rail.label} reads {voltage_mv} mV and {current_ma} mA, and a rail cannot "
                f"take less than 0 (noise down to -{NOISE_MA} mA is allowed). Check the shunt's direction in the "
                "device tree."
            )
        return voltage_mv * current_ma * 1e-6  # mV x mA = uW (kernel, Documentation/hwmon/ina3221.rst)


def _chosen(rails: str | Sequence[str], known: tuple[str, ...], found: ina3221.Rails) -> tuple[str, ...]:
    """Labels to add up."""
    if isinstance(rails, str):
        sets = {"module": MODULE_SETS, "compute": COMPUTE_SETS}
        if rails not in sets:
            raise MeterError(
                f"Meter {ina3221.NAME}: rails must be 'module', 'compute' or a list of labels, got '{rails}'."
            )
        for labels in sets[rails]:
            if set(labels) <= set(known):
                return labels
        raise MeterError(
            f"Meter {ina3221.NAME}: no rails that make up '{rails}' on this board; it has {', '.join(known)}"
            f"{_reasons(found)}. Name the rails to add up in the configuration."
        )
    if not rails or len(set(rails)) != len(rails):
        raise MeterError(f"Meter {ina3221.NAME}: name at least one rail, each once; got {list(rails)}.")
    for label in rails:
        if label not in known:
            raise MeterError(
                f"Meter {ina3221.NAME}: no rail '{label}' here.{nearest(label, known)} This board has "
                f"{', '.join(known)}{_reasons(found)}."
            )
    return tuple(rails)


def _reasons(found: ina3221.Rails) -> str:
    if not found.skipped:
        return ""
    return " (skipped: " + "; ".join(f"{where} {why}" for where, why in found.skipped) + ")"


def _nothing_found(root: Path, found: ina3221.Rails) -> str:
    if found.skipped:
        return f"Meter {ina3221.NAME}: there are INA3221 monitors, but no rail of them can be read{_reasons(found)}."
    return (
        f"Meter {ina3221.NAME}: no INA3221 monitor below {root / 'sys/bus/i2c'}. This is no Jetson with JetPack 5 or "
        "newer, or a container without /sys; mount /sys read-only, or choose another meter."
    )
