"""The power monitors of Jetson modules in sysfs: which channel measures which rail.

Numbers mean nothing (hwmon3 of one boot is hwmon4 of the next, and channel 1 of two chips are two rails), so rails
are found by their labels. The path through the driver and the one through the bus lead to the same chips; JetPack 5
and 6 have both, containers often only one.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from .attributes import Read, read_attribute, read_retrying
from .meter import MeterError

NAME = "jetson-rails"
LAYOUTS = (
    "sys/bus/i2c/drivers/ina3221/*-*/hwmon/hwmon*",
    "sys/bus/i2c/devices/*-*/hwmon/hwmon*",
    "sys/class/hwmon/hwmon*",  # all that some containers see
)
CHANNELS = (1, 2, 3)  # in4 to in7 are shunt voltages and their sum, not rails
MEND = (
    "These files are readable by all on JetPack; in a container mount /sys read-only, and elsewhere run "
    "'sudo chmod a+r' on the folder's in*_input and curr*_input."
)


@dataclass(frozen=True)
class Rail:
    """One channel: files in mV and mA."""

    label: str
    voltage_mv: Path
    current_ma: Path


@dataclass(frozen=True)
class Rails:
    """What was found.

    Attributes:
        rails: by label.
        skipped: channel and the reason why it is no rail.
    """

    rails: dict[str, Rail]
    skipped: tuple[tuple[str, str], ...]


def chips(root: Path, read: Read = read_attribute) -> list[Path]:
    """Folders of the chips below ``root``, each once, however many paths lead to it."""
    found: dict[Path, Path] = {}
    for layout in LAYOUTS:
        for folder in sorted(root.glob(layout)):
            if _is_ina3221(folder, read):
                found.setdefault(folder.resolve(), folder)
    return list(found.values())


def find_rails(root: Path, read: Read = read_attribute) -> Rails:
    """The rails that can be read.

    Raises:
        MeterError: two channels have one label, or permission is denied.
    """
    rails: dict[str, Rail] = {}
    skipped: list[tuple[str, str]] = []
    for folder in chips(root, read):
        for channel in CHANNELS:
            rail, reason = _channel(folder, channel, read)
            if rail is None:
                skipped.append((f"{folder.name}/in{channel}", reason))
            elif rail.label in rails:
                raise MeterError(
                    f"Meter {NAME}: {folder} and {rails[rail.label].voltage_mv.parent} both measure "
                    f"'{rail.label}', so one of them would be left out or counted twice. Report this board."
                )
            else:
                rails[rail.label] = rail
    return Rails(rails, tuple(skipped))


def _is_ina3221(folder: Path, read: Read) -> bool:
    try:
        return read_retrying(folder / "name", read) == "ina3221"
    except PermissionError:
        return "ina3221" in folder.parts  # found through its driver: its channels will say what is forbidden
    except OSError:
        return False


def _channel(folder: Path, channel: int, read: Read) -> tuple[Rail | None, str]:
    try:
        label = read_retrying(folder / f"in{channel}_label", read)
    except FileNotFoundError:
        return None, "no label"
    except PermissionError as err:
        raise MeterError(f"Meter {NAME}: no permission to read {folder}/in{channel}_label. {MEND}") from err
    except OSError as err:
        return None, f"label cannot be read ({err.strerror})"
    if label.upper() == "NC" or label == "sum of shunt voltages" or not label:
        return None, f"not connected (label '{label}')"
    rail = Rail(label, folder / f"in{channel}_input", folder / f"curr{channel}_input")
    for path in (rail.voltage_mv, rail.current_ma):
        try:
            read_retrying(path, read)
        except PermissionError as err:
            raise MeterError(f"Meter {NAME}: no permission to read {path}. {MEND}") from err
        except OSError as err:
            what = "disabled: EIO" if err.errno == errno.EIO else str(err.strerror)
            return None, f"'{label}' cannot be read ({what})"
    return rail, ""
