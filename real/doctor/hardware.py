"""Meters, heat, clocks and power mode of this machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..meters.find import find_meters
from .finding import Finding

GROUP = "hardware"
HOT_C = 85.0  # assumed: boards of this class begin to slow down some degrees above
_STA_UNSYNC = 0x0040  # linux/timex.h
_TIMEX_BYTES = 256  # struct timex is 208 bytes on 64 bit
_MODE_S = 5.0


def meters(root: Path | str, wanted: Sequence[str] | None) -> list[Finding]:
    """Each kind of meter.

    Args:
        root: where sys lies.
        wanted: kinds that a site file names; they are needed.
    """
    out = []
    for found in find_meters(root):
        name, needed = f"meter {found.kind}", found.kind in (wanted or ())
        if found.permitted:
            out.append(Finding(GROUP, name, "ok", found.detail))
            continue
        detail, _, mend = found.detail.partition(". ")
        mend = mend or "Energy is then calibrated and assumed, not measured."
        out.append(Finding(GROUP, name, "failed" if needed else "missing", detail, mend))
    return out


def temperature(root: Path) -> Finding:
    """The hottest of the thermal zones."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        try:
            found[(zone / "type").read_text().strip()] = int((zone / "temp").read_text()) / 1000
        except (OSError, ValueError):
            continue  # a zone that is switched off says EAGAIN or EIO
    if not found:
        return Finding(GROUP, "temperature", "missing", "no thermal zone can be read", "")
    name, hottest = max(found.items(), key=lambda item: item[1])
    detail = f"{hottest:.0f} C at {name}, the hottest of {len(found)} zones"
    if hottest >= HOT_C:
        mend = "Cool it before calibrating: a hot device is slower than its numbers."
        return Finding(GROUP, "temperature", "failed", detail, mend)
    return Finding(GROUP, "temperature", "ok", detail)


def clocks(root: Path) -> Finding:
    """Frequency governor of the processors."""
    governors = set()
    for file in root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"):
        try:
            governors.add(file.read_text().strip())
        except OSError:
            continue
    if not governors:
        return Finding(GROUP, "cpu clock", "missing", "the kernel does not say how it is governed", "")
    detail = f"governed by {', '.join(sorted(governors))}"
    if governors == {"performance"}:
        return Finding(GROUP, "cpu clock", "ok", detail)
    mend = (
        "Service times then depend on the load. Calibrate as you will run, or fix the clock (cpupower "
        "frequency-set -g performance; on a Jetson jetson_clocks)."
    )
    return Finding(GROUP, "cpu clock", "ok", detail, mend)


def power_mode() -> Finding:
    """The power mode of a Jetson; it is read, never changed."""
    program = shutil.which("nvpmodel")
    if program is None:
        return Finding(GROUP, "power mode", "missing", "no nvpmodel: this is no Jetson", "")
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=_MODE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(
            GROUP, "power mode", "missing", f"nvpmodel did not answer: {error}", "Run: sudo nvpmodel -q"
        )
    said = " ".join(done.stdout.split()) or " ".join(done.stderr.split())
    if done.returncode != 0 or not said:
        return Finding(
            GROUP, "power mode", "missing", f"nvpmodel: {said or 'no answer'}", "Run: sudo nvpmodel -q"
        )
    return Finding(GROUP, "power mode", "ok", said)


def clock_synchronised() -> Finding:
    """Whether the kernel's calendar clock follows a time source (adjtimex, which needs no privilege to read)."""
    name = "calendar clock"
    try:
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        return Finding(GROUP, name, "missing", "the kernel does not tell whether it is set", "")
    status = ctypes.c_int.from_buffer(buffer, ctypes.sizeof(ctypes.c_long) * 5).value
    if status & _STA_UNSYNC:
        mend = "Start a time service (systemd-timesyncd, chrony): ages of grid feeds and logs rest on it."
        return Finding(GROUP, name, "missing", "not synchronised, says the kernel", mend)
    return Finding(GROUP, name, "ok", "synchronised")
