"""JPEG files of frames, by Pillow."""

from __future__ import annotations

import io

from ...envs.errors import MissingExtraError
from ..interfaces import Image


def encode_jpeg(rgb: Image, quality: int) -> bytes:
    """A JPEG file of the pixels.

    Args:
        rgb: pixels (H, W, 3).
        quality: 1 to 100.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError as err:
        raise MissingExtraError("Encoding frames as JPEG", "device") from err
    buffer = io.BytesIO()
    PIL.Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
