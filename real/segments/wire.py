"""How an activation travels: as float32 or float16, or as uint8 with scale and zero of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ACTIVATION, SCALE = "ACTIVATION", "SCALE"
LEVELS = 255.0


def pack(activation: npt.NDArray[Any], wire: str) -> list[tuple[str, npt.NDArray[Any]]]:
    """An activation (1, ...) as what is sent, by name of the input."""
    if wire != "uint8":
        return [(ACTIVATION, np.ascontiguousarray(activation, dtype=wire))]
    low, high = float(activation.min()), float(activation.max())
    scale = (high - low) / LEVELS or 1.0
    zero = -low / scale
    levels = np.clip(np.rint(activation / scale + zero), 0, LEVELS).astype(np.uint8)
    return [(ACTIVATION, levels), (SCALE, np.array([[scale, zero]], np.float32))]


def unpack(parts: dict[str, npt.NDArray[Any]], wire: str) -> npt.NDArray[np.float32]:
    """What `pack` was given, nearly."""
    sent = parts[ACTIVATION].astype(np.float32)
    if wire != "uint8":
        return sent
    scale, zero = parts[SCALE][0]
    return (sent - zero) * scale
