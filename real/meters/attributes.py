"""Reading attributes of sysfs: files of one line that can fail at any time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from .meter import MeterError

Read = Callable[[Path], str]
TRIES = 3  # a transfer on the I2C bus fails now and then; the next one usually succeeds


def read_attribute(path: Path) -> str:
    """The text of an attribute without its line end; OSError as the kernel gives it."""
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()


def read_retrying(path: Path, read: Read) -> str:
    """Like ``read``, with another try after EIO."""
    for last in range(TRIES - 1, -1, -1):
        try:
            return read(path)
        except OSError as err:
            if err.errno != errno.EIO or not last:
                raise
    raise AssertionError("unreachable")


def read_integer(meter: str, path: Path, read: Read, mend: str) -> int:
    """A whole number.

    Raises:
        MeterError: with ``mend`` where permission is denied.
    """
    try:
        text = read_retrying(path, read)
    except PermissionError as err:
        raise MeterError(f"Meter {meter}: no permission to read {path}. {mend}") from err
    except OSError as err:
        raise MeterError(
            f"Meter {meter}: {path} cannot be read ({err.strerror or err}), tried {TRIES} times where the bus failed. "
            "The sensor or its driver went away; 'dmesg' says why."
        ) from err
    try:
        return int(text)
    except ValueError as err:
        raise MeterError(
            f"Meter {meter}: {path} must hold a whole number, got {text[:40]!r}. This driver is not the one expected."
        ) from err
