"""How an activation crosses the network: as it is, in half precision, or in bytes.

Runs on the device and, as a copy beside the model, in the server; needs NumPy only and imports nothing of ours.
"""

from __future__ import annotations

import numpy as np

WIRES = ("float32", "float16", "uint8")
ACTIVATION, SCALE = "ACTIVATION", "SCALE"  # names of the tail's inputs on the server
TRITON_TYPES = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8"}
LEVELS = 255.0
_HALF_MAX = float(np.finfo(np.float16).max)


class WireError(ValueError):
    """The activation has values that this wire cannot carry."""


def pack(activation: np.ndarray, wire: str) -> list[tuple[str, np.ndarray]]:
    """One request's activation as the tail's inputs.

    Args:
        activation: (1, ...) floating-point.
        wire: one of `WIRES`.

    Returns:
        Names and values of the inputs: `ACTIVATION` (1, ...), and for uint8 `SCALE` (1, 2) float32, which holds scale
        and zero: value = scale x (byte - zero), so that the smallest value is byte 0 and the largest byte 255.

    Raises:
        WireError: values that are not finite, or too large for half precision.
    """
    if wire == "float32":
        return [(ACTIVATION, activation.astype(np.float32, copy=False))]
    low, high = float(activation.min()), float(activation.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise WireError(f"the activation holds values that are not finite ({low} to {high})")
    if wire == "float16":
        if max(-low, high) > _HALF_MAX:
            raise WireError(f"the activation reaches from {low:.4g} to {high:.4g}, beyond half precision")
        return [(ACTIVATION, activation.astype(np.float16))]
    # A constant activation has a span of its own size, so that its zero is exact.
    scale = np.float32((high - low) / LEVELS) or np.float32(1.0)
    zero = np.float32(-low / float(scale))
    levels = activation.astype(np.float32) / scale + zero
    np.clip(np.rint(levels, out=levels), 0.0, LEVELS, out=levels)
    return [(ACTIVATION, levels.astype(np.uint8)), (SCALE, np.array([[scale, zero]], np.float32))]


def unpack(activation: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """What the tail computes with.

    Args:
        activation: (n, ...) as sent, n requests.
        scale: (n, 2) for bytes, None otherwise.

    Returns:
        (n, ...) float32.
    """
    if scale is None:
        return activation.astype(np.float32, copy=False)
    each = scale.reshape(len(activation), 2, *[1] * (activation.ndim - 1)).astype(np.float32)
    return each[:, 0] * (activation.astype(np.float32) - each[:, 1])


def wire_bytes(packed: list[tuple[str, np.ndarray]]) -> int:
    """Bytes of a packed activation."""
    return sum(array.nbytes for _, array in packed)
