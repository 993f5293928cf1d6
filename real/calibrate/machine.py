"""Which machine this is: what a site file remembers of the device that it was measured on."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

from ..site_file import Machine


def this_machine(root: Path | str = "/") -> Machine:
    """Describe this machine.

    Args:
        root: where proc lies; another folder for a fake tree.
    """
    return Machine(
        hostname=socket.gethostname(),
        architecture=platform.machine(),
        model=_model(Path(root)),
        cpu_count=os.cpu_count() or 1,
    )


def differences(measured_on: Machine, here: Machine) -> list[str]:
    """What tells two machines apart; a name alone does not make another machine."""
    return [
        f"{field} is {getattr(here, field)!r} here and {getattr(measured_on, field)!r} in the site file"
        for field in ("architecture", "model", "cpu_count")
        if getattr(here, field) != getattr(measured_on, field)
    ]


def _model(root: Path) -> str:
    """A board's own name, else the processor's."""
    try:
        return (root / "proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        pass
    try:
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware", "Processor") and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
