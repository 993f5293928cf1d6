"""Energy of a server's GPU from NVIDIA's management library (package nvidia-ml-py, module pynvml)."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import Any

from ...envs.errors import MissingExtraError
from ..clock import Clock, SystemClock
from .meter import MeterError, Sample, Scope

NAME = "nvml"
_MENDS = {
    "NVMLError_LibraryNotFound": "The driver's library libnvidia-ml.so.1 is not here: install the NVIDIA driver, or "
    "start the container with '--gpus all'.",
    "NVMLError_DriverNotLoaded": "The NVIDIA driver is not loaded: 'sudo modprobe nvidia', or restart after an update.",
    "NVMLError_LibRmVersionMismatch": "Driver and library are of different versions: restart the machine.",
    "NVMLError_NoPermission": "This user may not use the GPU: add it to the group that owns /dev/nvidia*.",
    "NVMLError_NotSupported": "This GPU reports neither energy nor power (Jetson never does through NVML): use the "
    "Jetson rails.",
    "NVMLError_InvalidArgument": "There is no GPU of this index: 'nvidia-smi -L' lists them.",
    "NVMLError_GpuIsLost": "The GPU fell off the bus: 'dmesg | grep -i xid' says why; restart the machine.",
}


class Nvml:
    """One GPU board: its energy counter (Volta and newer), or its power where it has none.

    The counter is of the whole board, also where MIG or time slicing share it. Power is a mean over the last second on
    most boards from Ampere on, so short windows need the counter.

    Args:
        index: of the GPU, as in ``nvidia-smi -L``.
        module: stands for pynvml; fakes come in here.

    Raises:
        MissingExtraError: nvidia-ml-py is not installed.
        MeterError: no driver, no such GPU, no permission, or neither counter nor power.
    """

    scope = Scope.GPU_BOARD

    def __init__(self, index: int = 0, module: Any = None, clock: Clock | None = None) -> None:
        self.name = f"{NAME}({index})"
        self._nvml = module if module is not None else _pynvml()
        self._clock = clock or SystemClock()
        self._open = False
        self._call("nvmlInit")
        self._open = True
        try:
            self._handle = self._call("nvmlDeviceGetHandleByIndex", index)
            self.counts_energy = self._has_counter()
            if not self.counts_energy:
                self._call("nvmlDeviceGetPowerUsage", self._handle)
        except BaseException:
            self.close()
            raise

    def sample(self) -> Sample:
        """Energy since the driver was loaded, J, or power, W."""
        if not self._open:
            raise MeterError(f"Meter {self.name} was closed; make a new one.")
        question = "nvmlDeviceGetTotalEnergyConsumption" if self.counts_energy else "nvmlDeviceGetPowerUsage"
        value = self._call(question, self._handle) / 1000  # mJ or mW
        time_s = self._clock.monotonic_s()
        return Sample(time_s, energy_j=value) if self.counts_energy else Sample(time_s, power_w=value)

    def close(self) -> None:
        """Let go of the library."""
        if self._open:
            self._open = False
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _has_counter(self) -> bool:
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except self._nvml.NVMLError_NotSupported:
            return False
        except self._nvml.NVMLError as err:
            raise self._error(err) from err
        return True

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError as err:
            raise self._error(err) from err

    def _error(self, err: Exception) -> MeterError:
        mend = _MENDS.get(type(err).__name__, "'nvidia-smi' says more.")
        return MeterError(f"Meter {self.name}: {str(err) or type(err).__name__}. {mend}")


def _pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as err:
        raise MissingExtraError("The meter of NVIDIA GPUs (nvidia-ml-py)", "device") from err
