"""What the stand-in models answer: a function of the image alone, so that clients can tell their own answer.

Runs in the server and in the client; needs NumPy and Pillow only.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CLASSES = 19  # of Cityscapes
SCALE = 4  # the mask has a quarter of the image's height and width


class NotAnImageError(ValueError):
    """The bytes are no JPEG of the agreed size; the message says what they are."""


def mask_of_pixels(rgb: np.ndarray) -> np.ndarray:
    """Answer to raw pixels: luminance of every fourth pixel, modulo 19.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        Mask (H/4, W/4) uint8.
    """
    corner = rgb[::SCALE, ::SCALE].astype(np.uint16)
    # Weights of ITU-R BT.601 in 256ths.
    luminance = (77 * corner[..., 0] + 150 * corner[..., 1] + 29 * corner[..., 2]) >> 8
    return (luminance % CLASSES).astype(np.uint8)


def mask_of_jpeg(jpeg: bytes, height: int, width: int) -> np.ndarray:
    """Answer to a JPEG file: its luminance as decoded at quarter scale, modulo 19.

    The decoder itself leaves out three quarters of each block's rows and columns, half the work of a full decoding.

    Args:
        jpeg: the file.
        height, width: the agreed size, multiples of 4.

    Returns:
        Mask (height/4, width/4) uint8.

    Raises:
        NotAnImageError: it is not a JPEG file, or one of another size.
    """
    image = open_jpeg(jpeg, height, width)
    image.draft("L", (width // SCALE, height // SCALE))
    try:
        luminance = np.asarray(image.convert("L"))
    except OSError as error:
        raise NotAnImageError(f"a damaged JPEG file: {error}") from error
    return (luminance % CLASSES).astype(np.uint8)


def pixels_of_jpeg(jpeg: bytes, height: int, width: int) -> np.ndarray:
    """All pixels (height, width, 3) uint8 of a JPEG file; the same errors."""
    image = open_jpeg(jpeg, height, width)
    try:
        return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise NotAnImageError(f"a damaged JPEG file: {error}") from error


def open_jpeg(jpeg: bytes, height: int, width: int) -> Image.Image:
    """Read the file's header and compare its size."""
    try:
        image = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
    except (OSError, Image.DecompressionBombError) as error:
        raise NotAnImageError(f"not a JPEG file ({len(jpeg)} bytes)") from error
    if image.size != (width, height):
        raise NotAnImageError(
            f"expected {height} x {width} pixels (height x width), got {image.height} x {image.width}"
        )
    return image
