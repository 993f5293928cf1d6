"""A cross-check of the meters: codecarbon's estimate of the whole host, beside what the host's own meters counted.

    python -m carbonpilot.real.meters.host_check --country GBR -- carbonpilot run --site site.yaml ...

It runs the command as a process of its own, so the runtime stays free of codecarbon and its memory. Not for a Jetson:
codecarbon does not know its rails and would make up a processor's design power.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ...agents.host_tracker import HostTracker
from ...envs.errors import CarbonPilotError
from ...envs.units import J_PER_KWH
from .attributes import read_attribute
from .ina3221 import chips
from .meter import Meter, MeterError
from .rapl import Rapl
from .sampler import SamplerThread
from .windows import WindowIntegrator

EVERY_S = (
    1.0  # between two readings of the host's own meter; and the longest gap it may have is three times that
)


@dataclass(frozen=True)
class Estimate:
    """What codecarbon says of each part of the machine, J."""

    cpu_j: float
    ram_j: float
    gpu_j: float

    @property
    def total_j(self) -> float:
        """All of it."""
        return self.cpu_j + self.ram_j + self.gpu_j


@dataclass(frozen=True)
class HostCheck:
    """Energy of the host while a command ran.

    Attributes:
        seconds: how long it was estimated.
        estimate: codecarbon's; None where it said nothing.
        method: how each part came about.
        counted_j: what the processors' own counter (RAPL) said; None where it cannot be read.
        exit_code: of the command.
    """

    seconds: float
    estimate: Estimate | None
    method: list[str]
    counted_j: float | None
    exit_code: int


def check(command: list[str], country_iso_code: str, meter: Meter | None = None) -> HostCheck:
    """Run a command and estimate the host's energy meanwhile.

    Args:
        command: program and arguments.
        country_iso_code: grid of this host, for codecarbon.
        meter: the host's own meter; None: RAPL where it can be read.

    Raises:
        MeterError: this is a Jetson.
        MissingExtraError: codecarbon is not installed.
        InputError: codecarbon does not know the country.
    """
    if chips(Path("/"), read_attribute):
        raise MeterError("codecarbon does not know a Jetson's rails; its meter here is jetson-rails.")
    tracker = HostTracker(country_iso_code, EVERY_S)
    meter = meter or _own_meter()
    sampler = None if meter is None else SamplerThread(meter, 1.0 / EVERY_S).start()
    tracker.start()
    try:
        code = subprocess.call(command)
    finally:
        tracker.stop()
        counted_j = None if meter is None or sampler is None else _counted(meter, sampler)
    if not tracker.measured:
        return HostCheck(0.0, None, tracker.method(), counted_j, code)
    data = tracker.data
    parts = Estimate(*(J_PER_KWH * kwh for kwh in (data.cpu_energy, data.ram_energy, data.gpu_energy)))
    return HostCheck(data.duration, parts, tracker.method(), counted_j, code)


def _own_meter() -> Meter | None:
    try:
        return Rapl()
    except MeterError:
        return None


def _counted(meter: Meter, sampler: SamplerThread) -> float | None:
    """Energy from the first to the last sample, J; None with too few of them."""
    sampler.stop()
    integrator = WindowIntegrator(meter.name, max_gap_s=3 * EVERY_S)
    samples = sampler.take()
    for sample in samples:
        integrator.add(sample)
    if len(samples) < 2:
        return None
    return integrator.energy(samples[0].time_s, samples[-1].time_s).gross_j


def report(found: HostCheck) -> str:
    """The check in words."""
    how, estimate = ", ".join(found.method), found.estimate
    if estimate is None:
        return f"codecarbon said nothing ({how})"
    text = (
        f"codecarbon: {estimate.total_j:.0f} J in {found.seconds:.0f} s, {estimate.total_j / found.seconds:.1f} W "
        f"(CPU {estimate.cpu_j:.0f} J, RAM {estimate.ram_j:.0f} J, GPU {estimate.gpu_j:.0f} J; {how})"
    )
    if found.counted_j is None:
        return (
            text + "\nno counter of the processors can be read here, so there is nothing to compare it with"
        )
    return (
        text
        + f"\nRAPL: {found.counted_j:.0f} J; codecarbon's CPU / RAPL {estimate.cpu_j / found.counted_j:.2f}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit code is the command's."""
    parser = argparse.ArgumentParser(
        prog="host_check", description="codecarbon beside the host's own meters while a command runs"
    )
    parser.add_argument(
        "--country", required=True, help="ISO 3166 alpha-3 code of this host's grid, such as GBR"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command to run")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("a command is missing: host_check --country GBR -- COMMAND ...")
    try:
        found = check(command, given.country)
    except (CarbonPilotError, FileNotFoundError) as error:
        print(f"host_check: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    print(report(found), file=sys.stderr)
    return found.exit_code


if __name__ == "__main__":
    sys.exit(main())
