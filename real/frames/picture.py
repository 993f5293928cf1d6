"""A picture of any source brought to the site's size; one that is none is told and never raises."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..interfaces import Image
from ..site_file import FrameSize

# Pillow's modes with 8 bits a channel; 16-bit and floating-point pictures would be cut off, not converted.
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_MOST_PIXELS = 100_000_000  # more are a mistake, or a file made to fill the memory
_ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True)
class Picture:
    """What a source gave.

    Attributes:
        name: file name, or number or time of a frame.
        rgb: pixels (H, W, 3) uint8 at the site's size; None where there are none.
        jpeg: the same as a JPEG file, where the source had one of the right size.
        problem: why there are no pixels.
    """

    name: str
    rgb: Image | None
    jpeg: bytes | None = None
    problem: str | None = None


def picture_of_file(path: Path, size: FrameSize) -> Picture:
    """Read a file; whatever it is, there is a picture, if only one with a problem."""
    try:
        data = path.read_bytes()
        rgb, as_it_is = _decode(data, size)
    except OSError as err:  # also Pillow's for what is no picture or only a part of one
        unreadable = isinstance(err, FileNotFoundError | PermissionError | IsADirectoryError)
        why = err.strerror if unreadable else f"not an image, or a damaged one ({_first_line(err)})"
        return Picture(path.name, None, problem=str(why))
    except Exception as err:  # decoders of damaged files raise nearly everything
        return Picture(path.name, None, problem=f"not an image that can be used ({_first_line(err)})")
    return Picture(path.name, rgb, jpeg=data if as_it_is else None)


def is_image(path: Path) -> bool:
    """Whether a file begins as one of the formats of images that are known here."""
    import PIL.Image

    try:
        with PIL.Image.open(path):
            return True
    except (PIL.UnidentifiedImageError, OSError):
        return False


def resized(rgb: Image, size: FrameSize) -> Image:
    """Pixels at the site's size, bilinear and stretched to fit."""
    if rgb.shape == (size.height, size.width, 3):
        return rgb
    import PIL.Image

    return np.asarray(_fit(PIL.Image.fromarray(rgb), size))


def _decode(data: bytes, size: FrameSize) -> tuple[Image, bool]:
    """The pixels, and whether ``data`` is a JPEG file of exactly these."""
    import PIL.Image
    import PIL.ImageOps

    with PIL.Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {_MOST_PIXELS:,}")
        if image.mode not in _EIGHT_BIT:
            raise ValueError(f"mode {image.mode}; pictures with 8 bits a channel are needed")
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        wanted = (size.width, size.height)
        as_it_is = image.format == "JPEG" and image.mode == "RGB" and image.size == wanted and not turned
        if not turned:
            image.draft("RGB", wanted)  # a JPEG decoder may leave out what resizing would throw away
        upright = PIL.ImageOps.exif_transpose(image) if turned else image
        return np.asarray(_fit(upright.convert("RGB"), size)), as_it_is


def _fit(image: Any, size: FrameSize) -> Any:
    import PIL.Image

    wanted = (size.width, size.height)
    return image if image.size == wanted else image.resize(wanted, PIL.Image.Resampling.BILINEAR)


def _first_line(err: Exception) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0][:200]
