"""What a meter is: a name, what it measures, and samples that carry their time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ...envs.errors import InputError


class MeterError(InputError):
    """A meter is missing, forbidden, silent, or says what cannot be; the message names the meter and the mend."""


class Scope(str, Enum):
    """What a meter's joules belong to; joules of two scopes that overlap must not be added."""

    DEVICE_MODULE = "device module"  # a Jetson module with its memory; without the carrier board
    SOC_PART = "SoC part"  # some rails of a module
    GPU_BOARD = "GPU board"  # one server GPU with its memory, whoever uses it
    CPU_PACKAGE = "CPU package"  # the processors of a host, whoever uses them
    HOST = "host"


@dataclass(frozen=True)
class Sample:
    """One reading: a power, or the state of a counter that only rises.

    Attributes:
        time_s: when it was taken, on a monotonic clock.
        power_w: power then, W; None where the meter counts energy.
        energy_j: energy since some moment, J; None where the meter reads power.
        parts: what the reading is made of, by rail or zone, in the reading's own unit (W or J).
    """

    time_s: float
    power_w: float | None = None
    energy_j: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The reading, W or J."""
        return self.power_w if self.power_w is not None else self.energy_j  # type: ignore[return-value]

    @property
    def counts(self) -> bool:
        """Whether it is the state of a counter."""
        return self.power_w is None


class Meter(Protocol):
    """A source of samples."""

    @property
    def name(self) -> str:
        """Its name in messages and logs."""
        ...

    @property
    def scope(self) -> Scope:
        """What its joules belong to."""
        ...

    def sample(self) -> Sample:
        """Read it now.

        Raises:
            MeterError: it gave no reading, or one that cannot be.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; closing twice is allowed, sampling afterwards is not."""
        ...


def checked(name: str, sample: Sample) -> Sample:
    """The sample itself, if it can be.

    Raises:
        MeterError: it holds neither or both of power and energy, or one that is NaN, infinite or negative.
    """
    if (sample.power_w is None) == (sample.energy_j is None):
        raise MeterError(f"Meter {name}: a sample holds either power_w or energy_j, got {sample}.")
    unit = "J" if sample.counts else "W"
    if not math.isfinite(sample.value) or not math.isfinite(sample.time_s):
        raise MeterError(
            f"Meter {name} read {sample.value} {unit} at {sample.time_s} s. It gave no reading; check its driver "
            "with 'carbonpilot doctor'."
        )
    if sample.value < 0:
        raise MeterError(
            f"Meter {name} read {sample.value:g} {unit} at {sample.time_s:g} s, and a meter cannot read less than 0. "
            "Check the units and the sensor's wiring or driver."
        )
    return sample
