"""A TensorBoard event file of scalars, without TensorBoard: a device need not install it, nor pay for its import.

The format is TFRecord (length and content, each with a masked CRC-32C) around the protobuf messages Event
{wall_time = 1, step = 2, file_version = 3, summary = 5} and Summary.Value {tag = 1, simple_value = 2}.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE = _table()


class EventFile:
    """Appends scalars to a file that ``tensorboard --logdir FOLDER`` shows; one write per event."""

    def __init__(self, folder: Path, wall_time_s: float, name: str) -> None:
        """Begin a new file in ``folder``; ``name`` tells it from those of other runs."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{int(wall_time_s):010d}.{name}"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._write(_event(wall_time_s, 0, b"\x1a" + _bytes(b"brain.Event:2")))

    def scalars(self, wall_time_s: float, step: int, values: Mapping[str, float]) -> None:
        """Append values of one step."""
        summary = b"".join(
            b"\x0a" + _bytes(b"\x0a" + _bytes(tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._write(_event(wall_time_s, step, b"\x2a" + _bytes(summary)))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        os.write(self._file, length + _masked_crc(length) + event + _masked_crc(event))


def _event(wall_time_s: float, step: int, rest: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", wall_time_s) + b"\x10" + _varint(step) + rest


def _bytes(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _masked_crc(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
