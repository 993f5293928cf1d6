"""Three panels over the requests of an episode, drawn with Pillow: a picture takes hundredths of a second.

matplotlib draws the same in a fifth of a second and loads in another half, which is too dear beside a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MissingExtraError

WIDTH, HEIGHT = 720, 480
SCALE = 2  # drawn so many times larger and then made smaller, which smooths the edges
LEFT, RIGHT, TOP, GAP, BOTTOM = 128, 16, 26, 18, 40
TEXT, DOT = 12, 2.6
INK, PALE = "#202020", "#d8d8d8"


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        values: of each request (N,).
        top: value at its upper end; what is above is drawn there. Its lower end is ``bottom``.
        marks: text -> value, written at the left side with a fine line.
        bottom: value at its lower end.
        line: value of a dashed line, if any.
    """

    values: npt.NDArray
    top: float
    marks: dict[str, float]
    bottom: float = 0.0
    line: float | None = None


def draw_panels(
    title: str, foot: str, first: int, panels: Sequence[Panel], colours: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Draw panels above each other over the same requests.

    Args:
        title, foot: text above and below.
        first: number of the first request.
        panels: from above, all of N requests.
        colours: of each request.

    Returns:
        The picture (H, W, 3).
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingExtraError("render_mode='rgb_array'", "train") from None
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), "white")
    pen = _Pen(ImageDraw.Draw(image), ImageFont.load_default(TEXT * SCALE))
    pen.text(LEFT, TOP / 2, title, "lm")
    pen.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, foot, "mm")
    height = (HEIGHT - TOP - BOTTOM - GAP * (len(panels) - 1)) / len(panels)
    for i, panel in enumerate(panels):
        _draw(pen, panel, TOP + i * (height + GAP), height, colours)
    last = first + len(colours) - 1
    for number, x in ((first, LEFT), (last, WIDTH - RIGHT)):
        pen.text(x, HEIGHT - BOTTOM + 10, str(number), "mm")
    return np.asarray(image.reduce(SCALE))


def _draw(pen: _Pen, panel: Panel, above: float, height: float, colours: Sequence[str]) -> None:
    def y(value: npt.NDArray | float) -> Any:
        inside = np.clip(value, panel.bottom, panel.top)
        return above + height * (1 - (inside - panel.bottom) / (panel.top - panel.bottom))

    pen.box(LEFT, above, WIDTH - RIGHT, above + height)
    for text, value in panel.marks.items():
        pen.line(LEFT, y(value), WIDTH - RIGHT, y(value), PALE)
        pen.text(LEFT - 8, y(value), text, "rm")
    if panel.line is not None:
        pen.dashed(LEFT, WIDTH - RIGHT, y(panel.line))
    room = (WIDTH - RIGHT - LEFT) / max(len(colours), 1)
    for i, (height_y, colour) in enumerate(zip(y(panel.values), colours, strict=True)):
        pen.dot(LEFT + (i + 0.5) * room, height_y, colour)


class _Pen:
    """Draws in units of the finished picture."""

    def __init__(self, draw: Any, font: Any) -> None:
        self._draw, self._font = draw, font

    def text(self, x: float, y: float, text: str, anchor: str) -> None:
        self._draw.text((x * SCALE, y * SCALE), text, INK, font=self._font, anchor=anchor)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str = INK) -> None:
        self._draw.line([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], colour, SCALE)

    def dashed(self, x0: float, x1: float, y: float) -> None:
        for x in np.arange(x0, x1, 10.0):
            self.line(x, y, min(x + 6, x1), y)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self._draw.rectangle([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], outline=INK, width=SCALE)

    def dot(self, x: float, y: float, colour: str) -> None:
        x, y, r = x * SCALE, y * SCALE, DOT * SCALE
        self._draw.ellipse([x - r, y - r, x + r, y + r], colour)
