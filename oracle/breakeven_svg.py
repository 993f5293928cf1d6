"""The break-even map as SVG for a page: text as text, colours from the page, any width, light and dark.

Text and axes take the page's text colour (``currentColor``). Lines take ``--breakeven-1`` to ``--breakeven-4`` where
the page sets them, else colours that stand out on both white and black.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

import numpy as np

from .breakeven import BreakEven
from .breakeven_panels import Bar, Panel, panels

# After Okabe and Ito (jfly.uni-koeln.de/color, 2008), blue and purple lighter to stand out on black too.
COLOURS = ("#2B87C8", "#D55E00", "#009E73", "#C766A0")
WIDTH = 640
LEFT, RIGHT = 56, 612
PLOT_HEIGHT = 230
ROW = 17  # a line of text
LETTERS = 92  # of text in a line


def map_svg(result: BreakEven) -> str:
    """Draw the map as one self-contained SVG element that scales with the page."""
    parts, top = [], 0
    for panel in panels(result):
        drawn, height = _panel(panel, top)
        parts += drawn
        top += height
    if not parts:
        parts, top = [_text(0, ROW, "One place to compute: nothing to compare.", "start")], 2 * ROW
    said = escape(result.conclusion)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="100%" role="img" '
            'aria-label="Break-even map" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">',
            f"<title>Break-even map of {escape(result.scenario.name)}</title><desc>{said}</desc>",
            *parts,
            "</svg>",
        ]
    )


class _Axes:
    """From the panel's numbers to places on the page."""

    def __init__(self, panel: Panel, top: float) -> None:
        self.low, self.high = (math.log(v) for v in panel.x_range)
        self.y_low, self.y_high = panel.y_range
        self.top, self.bottom = top, top + PLOT_HEIGHT

    def x(self, value: float) -> float:
        share = (math.log(max(value, 1e-12)) - self.low) / (self.high - self.low)
        return round(LEFT + min(max(share, 0.0), 1.0) * (RIGHT - LEFT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def holds(self, x: float, y: float) -> bool:
        inside_x = np.isfinite(x) and x > 0 and self.low <= math.log(x) <= self.high
        return bool(inside_x and np.isfinite(y) and self.y_low <= y <= self.y_high)


def _panel(panel: Panel, top: int) -> tuple[list[str], int]:
    """One panel from ``top`` down: title, bars, plot, legend; and its height."""
    parts = [_text(0, top + ROW, panel.title, "start", 'font-weight="600" font-size="14"')]
    bars_top = top + ROW + 12
    plot_top = bars_top + ROW * len(panel.bars) + 8
    axes = _Axes(panel, plot_top)
    parts += [
        part for i, bar in enumerate(panel.bars) for part in _bar(axes, bar, bars_top + ROW * i + ROW // 2)
    ]
    parts += _frame(panel, axes)
    if panel.dots is not None:
        parts.append('<g opacity="0.4">')
        parts += [
            f'<circle cx="{axes.x(x)}" cy="{axes.y(y)}" r="1.8"/>'
            for x, y in zip(*panel.dots, strict=True)
            if axes.holds(x, y)
        ]
        parts.append("</g>")
    below = axes.bottom + 46
    for line in panel.lines:
        style = _style(line.colour, line.dashed)
        parts += [f'<path d="{d}" {style}/>' for d in _paths(axes, line.x, line.y)]
        parts.append(f'<path d="M{LEFT} {below - 4}h30" {style}/>')
        for row in _wrapped(line.label):
            parts.append(_text(LEFT + 38, below, row, "start"))
            below += ROW
    for row in _wrapped(panel.note):
        parts.append(_text(LEFT, below, row, "start", 'opacity="0.75"'))
        below += ROW
    return parts, int(below + 14 - top)


def _frame(panel: Panel, axes: _Axes) -> list[str]:
    """Axes with ticks and names."""
    lines = [f'<path d="M{LEFT} {axes.top}V{axes.bottom}H{RIGHT}" fill="none" stroke="currentColor"/>']
    for x in log_ticks(*panel.x_range):
        at = axes.x(x)
        lines.append(f'<path d="M{at} {axes.top}V{axes.bottom}" stroke="currentColor" opacity="0.15"/>')
        lines.append(_text(at, axes.bottom + 15, f"{x:g}", "middle"))
    for y in even_ticks(*panel.y_range):
        at = axes.y(y)
        lines.append(f'<path d="M{LEFT} {at}H{RIGHT}" stroke="currentColor" opacity="0.15"/>')
        lines.append(_text(LEFT - 6, at + 4, f"{y:g}", "end"))
    lines.append(_text((LEFT + RIGHT) / 2, axes.bottom + 30, panel.x_label, "middle"))
    middle = (axes.top + axes.bottom) / 2
    lines.append(_text(14, middle, panel.y_label, "middle", f'transform="rotate(-90 14 {middle})"'))
    return lines


def _bar(axes: _Axes, bar: Bar, y: float) -> list[str]:
    """What the site spans on the ratio's axis, its name where there is room."""
    low, middle, high = (axes.x(v) for v in (bar.low, bar.middle, bar.high))
    end = "end" if low > WIDTH / 2 else "start"
    beside = low - 8 if end == "end" else (high + 8 if high < RIGHT - 110 else LEFT)
    return [
        f'<path d="M{low} {y}H{high}" stroke="currentColor" stroke-width="4" opacity="0.35"/>',
        f'<circle cx="{middle}" cy="{y}" r="4"/>',
        _text(beside, y + 4, bar.label, end),
    ]


def _paths(axes: _Axes, xs: np.ndarray, ys: np.ndarray) -> list[str]:
    """The pieces of a line that lie inside the plot."""
    pieces: list[list[str]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if axes.holds(float(x), float(y)):
            pieces[-1].append(f"{axes.x(float(x))} {axes.y(float(y))}")
        elif pieces[-1]:
            pieces.append([])
    return ["M" + "L".join(piece) for piece in pieces if len(piece) > 1]


def _style(colour: int, dashed: bool) -> str:
    stroke = f"var(--breakeven-{colour + 1}, {COLOURS[colour]})"
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'fill="none" style="stroke: {stroke}" stroke-width="2.4"{dash}'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    extra = f" {more}" if more else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _wrapped(text: str) -> list[str]:
    """Lines of at most `LETTERS` letters."""
    rows = [""]
    for word in text.split():
        if rows[-1] and len(rows[-1]) + len(word) >= LETTERS:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return rows


def log_ticks(low: float, high: float) -> list[float]:
    """Round values between two bounds, few enough to be read: 1, 2, 5 of each decade, or 1 only."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def even_ticks(low: float, high: float) -> list[float]:
    """Round values between two bounds, about six of them."""
    step = 10.0 ** math.floor(math.log10((high - low) / 5))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 7)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]
