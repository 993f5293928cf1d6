"""CarbonEdge's Carbon Monitor: from time-stamped power samples to joules, shares of nodes and grams of CO2.

Section III-B of the paper: E_total is the integral of GPU, CPU and RAM power (eq (1)), with 0.375 W for each GB of
RAM, and C = E x I x PUE (eq (2)). Section IV-A: a host's energy is shared among its containers by their quotas,
"an accounting method, not direct per-container measurement".

A meter that fails must not read as a machine that needs nothing: NaN, negative or silent meters and clocks that
run back are errors, and stretches without samples are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError
from ..envs.power_log import (
    F64,
    long_intervals,
    not_negative,
    numbers,
    power_readings,
    rising_times,
    times_within,
    trapezoids,
)
from ..envs.units import J_PER_KWH

RAM_W_PER_GB = 0.375  # section III-B1: "based on typical DDR4 memory specifications"
MAX_GAP_S = 2.0  # twice CodeCarbon's measure_power_secs=1 of section IV-A4, assumed


@dataclass(frozen=True)
class PowerLog:
    """Samples of a host's power; all arrays (N,), N at least 2.

    Attributes:
        time_s: when each sample was taken, rising.
        cpu_w: CPU power (RAPL).
        ram_gb: RAM that the accounting charges.
        gpu_w: GPU power (nvidia-smi), or None on a host without a GPU.
    """

    time_s: F64
    cpu_w: F64
    ram_gb: F64
    gpu_w: F64 | None = None

    @classmethod
    def of(
        cls,
        time_s: npt.ArrayLike,
        cpu_w: npt.ArrayLike,
        ram_gb: npt.ArrayLike,
        gpu_w: npt.ArrayLike | None,
    ) -> PowerLog:
        """Check samples and keep them.

        Args:
            time_s: times (N,).
            cpu_w, gpu_w: power at each time (N,); ``gpu_w`` is None on a host without a GPU, never zeros.
            ram_gb: RAM at each time (N,), or one number for all.

        Raises:
            InputError: names the meter, the sample and what is wrong with it.
        """
        time = rising_times(time_s)
        ram = np.broadcast_to(numbers("ram_gb", ram_gb, time.size), time.shape)
        gpu = None if gpu_w is None else power_readings("gpu_w", gpu_w, time.size)
        return cls(time, power_readings("cpu_w", cpu_w, time.size), not_negative("ram_gb", ram), gpu)

    def part(self, start_s: float, end_s: float) -> PowerLog:
        """The samples of a stretch of time, with interpolated ones at its ends.

        Raises:
            InputError: the stretch is empty, or the samples do not cover it.
        """
        time = times_within(self.time_s, start_s, end_s)
        cpu, ram = (np.interp(time, self.time_s, values) for values in (self.cpu_w, self.ram_gb))
        return PowerLog(
            time, cpu, ram, None if self.gpu_w is None else np.interp(time, self.time_s, self.gpu_w)
        )


@dataclass(frozen=True)
class HostEnergy:
    """What a host took.

    Attributes:
        cpu_j, gpu_j, ram_j: energy of each part, gaps bridged.
        seconds: length of the measurement.
        gaps_s: (start, end) of each stretch without a sample that is longer than allowed.
        bridged_j: the part of the energy that lies in gaps, assumed and not measured.
    """

    cpu_j: float
    gpu_j: float
    ram_j: float
    seconds: float
    gaps_s: tuple[tuple[float, float], ...]
    bridged_j: float

    @property
    def total_j(self) -> float:
        """E_total, J."""
        return self.cpu_j + self.gpu_j + self.ram_j


@dataclass(frozen=True)
class Quota:
    """What a container may use (Docker's ``--cpus`` and ``--memory``)."""

    cpus: float
    memory_gb: float


def host_energy(log: PowerLog, max_gap_s: float = MAX_GAP_S) -> HostEnergy:
    """E_total = integral of P_GPU + P_CPU + P_RAM (eq (1)), by trapezoids.

    Args:
        log: the samples; `PowerLog.part` cuts out a run.
        max_gap_s: the longest interval between samples that counts as measured.
    """
    intervals = np.diff(log.time_s)
    gaps = intervals > max_gap_s
    cpu, ram = trapezoids(intervals, log.cpu_w), trapezoids(intervals, RAM_W_PER_GB * log.ram_gb)
    gpu = np.zeros_like(cpu) if log.gpu_w is None else trapezoids(intervals, log.gpu_w)
    return HostEnergy(
        cpu_j=float(cpu.sum()),
        gpu_j=float(gpu.sum()),
        ram_j=float(ram.sum()),
        seconds=float(intervals.sum()),
        gaps_s=long_intervals(log.time_s, max_gap_s),
        bridged_j=float((cpu + gpu + ram)[gaps].sum()),
    )


def apportion_j(host: HostEnergy, quotas: Mapping[str, Quota]) -> dict[str, float]:
    """Energy of each container, J: the host's by quota, all of it.

    RAM goes by memory quota; CPU goes by CPU quota, and so does GPU, for which Docker has no quota (assumed).

    Raises:
        InputError: a quota is negative or NaN, or nobody has any of one kind.
    """
    cpu_share = _shares("cpus", quotas, [q.cpus for q in quotas.values()])
    memory_share = _shares("memory_gb", quotas, [q.memory_gb for q in quotas.values()])
    energy_j = cpu_share * (host.cpu_j + host.gpu_j) + memory_share * host.ram_j
    return dict(zip(quotas, energy_j.tolist(), strict=True))


def carbon_g(energy_j: float, carbon_g_per_kwh: float, pue: float = 1.0) -> float:
    """C = E x I x PUE (eq (2)), g.

    Args:
        energy_j: energy of the IT equipment.
        carbon_g_per_kwh: intensity of its grid.
        pue: power usage effectiveness, "default 1.0 for edge devices".

    Raises:
        InputError: energy or intensity is negative or NaN, or the PUE below 1.
    """
    for name, value, least in (
        ("energy_j", energy_j, 0.0),
        ("carbon_g_per_kwh", carbon_g_per_kwh, 0.0),
        ("pue", pue, 1.0),
    ):
        if not value >= least or not np.isfinite(value):
            raise InputError(f"{name} must be a number of at least {least:g}, got {value}.")
    return energy_j / J_PER_KWH * carbon_g_per_kwh * pue


def _shares(kind: str, quotas: Mapping[str, Quota], values: Sequence[float]) -> F64:
    for name, value in zip(quotas, values, strict=True):
        if not value >= 0 or not np.isfinite(value):
            raise InputError(f"Quota {kind} of {name} must be a number of at least 0, got {value}.")
    if not sum(values) > 0:
        raise InputError(f"Nobody has a quota of {kind}, so nobody can be charged for it.")
    return np.array(values) / sum(values)
