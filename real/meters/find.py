"""Which meters this machine has, which of them may be used, and how to mend the others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...envs.errors import InputError, MissingExtraError
from . import ina3221, nvml, rapl, tegrastats
from .attributes import Read, read_attribute
from .jetson_rails import JetsonRails
from .meter import Meter, MeterError
from .nvml import Nvml
from .rapl import Rapl


@dataclass(frozen=True)
class Finding:
    """One kind of meter on this machine.

    Attributes:
        kind: its name.
        present: whether the hardware or program is here; None where it cannot be told.
        permitted: whether it gave a sample; False also where it is absent.
        detail: what was read, or why not, with the mend.
    """

    kind: str
    present: bool | None
    permitted: bool
    detail: str


def find_meters(
    root: Path | str = "/", nvml_module: Any = None, read: Read = read_attribute
) -> list[Finding]:
    """Try every kind of meter once, as ``doctor`` does; nothing is left open.

    Args:
        root: where sys and usr lie; another folder for a fake tree.
        nvml_module: stands for pynvml.
        read: reads an attribute of sysfs.
    """
    root = Path(root)
    return [
        _tried(ina3221.NAME, bool(ina3221.chips(root, read)), lambda: JetsonRails(root, read=read)),
        _tegrastats(root),
        _tried(rapl.NAME, bool(rapl.zones(root, read)), lambda: Rapl(root, read=read)),
        _tried(nvml.NAME, None, lambda: Nvml(module=nvml_module)),
    ]


def _tried(kind: str, present: bool | None, make: Callable[[], Meter]) -> Finding:
    try:
        meter = make()
    except MissingExtraError as err:
        return Finding(kind, None, False, str(err))
    except InputError as err:
        return Finding(kind, present, False, str(err))
    try:
        sample = meter.sample()
        reading = f"{sample.value:.3f} {'J so far' if sample.counts else 'W'}"
        parts = ", ".join(f"{part} {value:.3f}" for part, value in sample.parts.items())
        return Finding(
            kind,
            True,
            True,
            f"{meter.name}, {meter.scope.value}: {reading}" + (f" ({parts})" if parts else ""),
        )
    except MeterError as err:
        return Finding(kind, True, False, str(err))
    finally:
        meter.close()


def _tegrastats(root: Path) -> Finding:
    """Present or not; starting it for a line would take a second."""
    found = shutil.which("tegrastats") if root == Path("/") else _executable(root / "usr/bin/tegrastats")
    if found:
        return Finding(tegrastats.NAME, True, True, f"{found}; a cross-check of {ina3221.NAME}")
    return Finding(
        tegrastats.NAME, False, False, "No tegrastats: it comes with JetPack; only needed as a cross-check."
    )


def _executable(path: Path) -> str | None:
    return str(path) if path.is_file() else None
