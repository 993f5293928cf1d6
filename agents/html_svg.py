"""A little SVG: axes, lines and marks as text that a page can carry, coloured by the page's own style.

Colours are CSS variables, so a picture follows light, dark and print. Every text is text. Widths are in units of a
view box as wide as a phone (``WIDTH``); the page scales it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

WIDTH = 420.0

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Frame:
    """A rectangle of the picture with a scale for each direction.

    Attributes:
        left, top, right, bottom: its edges.
        x, y: value -> position between 0 and 1; y counts upwards.
    """

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Position of a value, kept inside the frame."""
        across, up = (min(max(v, 0.0), 1.0) for v in (self.x(x), self.y(y)))
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )


def linear(low: float, high: float) -> Scale:
    """Even scale; a range without width stands in the middle."""
    return lambda v: (v - low) / (high - low) if high > low else 0.5


def half_log(knee: float, high: float) -> Scale:
    """Even up to the knee, logarithmic above it; zero has a place."""
    if high <= knee:
        return linear(0.0, high)
    whole = 1.0 + math.log(high / knee)
    return lambda v: (v / knee if v <= knee else 1.0 + math.log(v / knee)) / whole


def tail_log(least: float) -> Scale:
    """Share of requests -> height, the last few per cent spread out: logarithmic in what is left of 1."""
    return lambda v: math.log(max(1.0 - v, least)) / math.log(least)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def shortened(name: str, most: int = 40) -> str:
    """A name that fits into a picture; the table has the whole one."""
    return name if len(name) <= most else f"{name[: most - 13]}…{name[-12:]}"


@dataclass
class Picture:
    """An SVG that is being drawn.

    Attributes:
        title: what it shows, for those who cannot see it.
        height: of the view box.
        width: of the view box.
    """

    title: str
    height: float
    width: float = WIDTH
    parts: list[str] = field(default_factory=list)

    def svg(self) -> str:
        """The element."""
        name = html.escape(self.title, quote=True)
        return (
            f'<svg viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" aria-label="{name}">'
            f"<title>{name}</title>{''.join(self.parts)}</svg>"
        )

    def text(
        self, x: float, y: float, text: str, kind: str = "", anchor: str = "start", turned: bool = False
    ) -> None:
        """Write a text; ``kind`` is a class of the page's style."""
        turn = f' transform="rotate(-90 {_n(x)} {_n(y)})"' if turned else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" class="{kind}"{turn}>{html.escape(text)}</text>'
        )

    def line(self, points: Iterable[tuple[float, float]], kind: str, style: str = "") -> None:
        """Draw a line through points."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{kind}"{_style(style)}/>')

    def area(self, points: Iterable[tuple[float, float]], kind: str, style: str = "") -> None:
        """Fill what points surround."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self.parts.append(f'<polygon points="{path}" class="{kind}"{_style(style)}/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, style: str = "") -> None:
        """Draw a rectangle."""
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" class="{kind}"{_style(style)}/>'
        )

    def mark(self, x: float, y: float, kind: str, filled: bool, size: float = 6.0, tip: str = "") -> None:
        """Draw the mark of a kind of policy, open or filled, with a text that shows on hovering."""
        shape = mark(x, y, kind, filled, size)
        self.parts.append(f"<g><title>{html.escape(tip)}</title>{shape}</g>" if tip else shape)

    def x_axis(self, frame: Frame, marks: Sequence[tuple[float, str]], name: str) -> None:
        """Draw grid lines, numbers and a name below a frame."""
        for value, label in marks:
            x, _ = frame.at(value, 0)
            self.line([(x, frame.top), (x, frame.bottom)], "grid")
            self.text(x, frame.bottom + 16, label, "tick", "middle")
        if name:
            self.text((frame.left + frame.right) / 2, frame.bottom + 34, name, "axis", "middle")

    def y_axis(self, frame: Frame, marks: Sequence[tuple[float, str]], name: str) -> None:
        """Draw grid lines and numbers left of a frame, and a name above it."""
        for value, label in marks:
            _, y = frame.at(0, value)
            self.line([(frame.left, y), (frame.right, y)], "grid")
            self.text(frame.left - 6, y + 4.5, label, "tick", "end")
        if name:
            self.text(2, frame.top - 10, name, "axis")


def mark(x: float, y: float, kind: str, filled: bool, size: float = 6.0) -> str:
    """The mark of a kind of policy: square static, circle rule, diamond learned, star oracle."""
    look = f"mark {kind}{'' if filled else ' open'}"
    if kind == "rule":
        return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size * 0.92)}" class="{look}"/>'
    corners = {"static": _polygon(4, 45.0), "learned": _polygon(4, 0.0), "oracle": _star()}[kind]
    factor = {"static": 1.15, "learned": 1.3, "oracle": 1.55}[kind] * size
    path = " ".join(f"{_n(x + factor * dx)},{_n(y + factor * dy)}" for dx, dy in corners)
    return f'<polygon points="{path}" class="{look}"/>'


def _polygon(count: int, turn_deg: float) -> list[tuple[float, float]]:
    angles = [math.radians(turn_deg + 360.0 * i / count) for i in range(count)]
    return [(math.sin(a), -math.cos(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _polygon(5, 0.0), _polygon(5, 36.0)
    return [p for i in range(5) for p in (outer[i], (0.42 * inner[i][0], 0.42 * inner[i][1]))]


def _style(style: str) -> str:
    return f' style="{style}"' if style else ""


def _n(value: float) -> str:
    """A coordinate with one decimal, without trailing zeros."""
    return f"{value:.1f}".removesuffix(".0")
