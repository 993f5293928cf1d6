"""What an executor takes from a frame."""

from __future__ import annotations

import numpy as np

from ..interfaces import ExecutorError, Frame, Image


def pixels(frame: Frame) -> Image:
    """The frame's pixels (H, W, 3) uint8.

    Raises:
        ExecutorError: it has none; such a frame has its result before it comes to an executor.
    """
    if frame.rgb is None:
        raise ExecutorError(
            "model-error", f"Frame {frame.index} ({frame.name}) has no pixels: {frame.problem}."
        )
    return frame.rgb


def model_input(frame: Frame, size: tuple[int, int]) -> Image:
    """The frame as a model on the device takes it (1, H, W, 3) uint8.

    Raises:
        ExecutorError: it has no pixels, or is of another size.
    """
    rgb = pixels(frame)
    if rgb.shape != (*size, 3) or rgb.dtype != np.uint8:
        raise ExecutorError(
            "model-error",
            f"Frame {frame.index} is {rgb.shape} {rgb.dtype}, the model takes {(*size, 3)} uint8.",
        )
    return rgb[np.newaxis]


def payload_bytes(frame: Frame) -> int:
    """Size of the frame as it travels when nobody says how: its JPEG if it has one, else its pixels."""
    if frame.jpeg is not None:
        return len(frame.jpeg)
    return 0 if frame.rgb is None else frame.rgb.nbytes
