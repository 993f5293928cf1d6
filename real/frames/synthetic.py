"""Pictures made up: coloured clouds and blocks that move, the same in every run; no files needed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..interfaces import Image
from ..site_file import FrameSize
from .folder import turns
from .picture import Picture

SEED = 0
# Height of each octave of the texture; chosen so that a JPEG of 256 x 512 at quality 80 has about 30 kB, as
# photographs of streets have.
_OCTAVES = ((64, 60.0), (16, 30.0), (4, 18.0), (1, 9.0))
_BLOCKS = 12


class SyntheticPictures:
    """``count`` pictures; neighbours are the same pattern, moved."""

    live = False

    def __init__(self, count: int, size: FrameSize) -> None:
        """Make the pattern."""
        self._count = count
        rng = np.random.default_rng(SEED)
        shape = (size.height, size.width)
        texture = np.zeros((*shape, 3)) + 110.0
        for cell, height in _OCTAVES:
            coarse = rng.normal(0.0, height, (-(-shape[0] // cell) + 1, -(-shape[1] // cell) + 1, 3))
            texture += _smooth(coarse, cell)[: shape[0], : shape[1]]
        self._texture: Image = np.clip(texture, 0, 255).astype(np.uint8)
        corners = rng.integers(0, [shape[0] * 3 // 4, shape[1]], (_BLOCKS, 2))
        sides = rng.integers(min(shape) // 16, min(shape) // 4, (_BLOCKS, 2))
        colours = rng.integers(0, 256, (_BLOCKS, 3))
        speeds = rng.integers(1, 8, _BLOCKS)
        self._blocks = list(
            zip(corners.tolist(), sides.tolist(), colours.tolist(), speeds.tolist(), strict=True)
        )

    def pictures(self, start: int, repeat: bool) -> Iterator[Picture]:
        """See `source.Pictures`."""
        for number in turns(start, self._count, repeat):
            yield Picture(f"synthetic-{number:06d}", self._picture(number))

    def close(self) -> None:
        """Nothing is open."""

    def _picture(self, number: int) -> Image:
        rgb = np.roll(self._texture, 2 * number, axis=1)  # the camera moves, and blocks before it
        width = rgb.shape[1]
        for (top, left), (tall, wide), colour, speed in self._blocks:
            at = (left + speed * number) % width
            rgb[top : top + tall, at : at + wide] = colour
        return rgb


def _smooth(coarse: np.ndarray, cell: int) -> np.ndarray:
    """Values on a grid of ``cell`` pixels, with straight lines between."""
    if cell == 1:
        return coarse
    for axis in (0, 1):
        low = np.take(coarse, range(coarse.shape[axis] - 1), axis=axis).repeat(cell, axis=axis)
        high = np.take(coarse, range(1, coarse.shape[axis]), axis=axis).repeat(cell, axis=axis)
        share = np.tile(np.arange(cell) / cell, coarse.shape[axis] - 1)
        share = share.reshape([-1 if i == axis else 1 for i in range(3)])
        coarse = low + (high - low) * share
    return coarse
