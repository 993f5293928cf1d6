"""The break-even map: as PNG (matplotlib) and as SVG for a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from ..envs.errors import MissingExtraError
from .breakeven import BreakEven
from .breakeven_panels import Panel, panels
from .breakeven_svg import COLOURS, even_ticks, log_ticks, map_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_map", "map_svg", "require_drawing"]

DPI = 130


def require_drawing() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("Drawing the break-even map", "train") from None


def draw_map(result: BreakEven) -> bytes:
    """Draw the map as PNG, the conclusion as its heading.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_drawing()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels(result)
    figure = Figure(figsize=(13.0, 5.8), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    heading = _wrapped(f"{result.scenario.name}: {result.conclusion}", 170)
    figure.suptitle(heading, fontsize=10.5, x=0.01, ha="left")
    for i, panel in enumerate(shown):
        _draw(figure.add_subplot(1, len(shown), i + 1), panel)
    if not shown:
        figure.text(0.5, 0.5, "One place to compute: nothing to compare.", ha="center")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=11, loc="left")
    axes.set_xscale("log")
    axes.set_xlim(*panel.x_range)
    low, high = panel.y_range
    # Bars of what the site spans stand above the plot's own range.
    room = 0.06 * (high - low) * len(panel.bars)
    axes.set_ylim(low, high + room)
    if panel.dots is not None:
        axes.plot(*panel.dots, ".", color="#777777", markersize=4, alpha=0.6, zorder=1)
    for line in panel.lines:
        axes.plot(
            line.x, line.y, color=COLOURS[line.colour], label=line.label, linewidth=2.2,
            linestyle=(0, (5, 3)) if line.dashed else "-",
        )  # fmt: skip
    for i, bar in enumerate(panel.bars):
        y = high + room * (i + 0.5) / len(panel.bars)
        left, middle, right = np.clip((bar.low, bar.middle, bar.high), *panel.x_range)
        axes.plot([left, right], [y, y], color="#555555", linewidth=4, alpha=0.5, solid_capstyle="butt")
        axes.plot([middle], [y], "o", color="#333333", markersize=6)
        axes.annotate(
            bar.label, (left, y), (-6, 0), textcoords="offset points", ha="right", va="center", fontsize=8
        )
    axes.set_xticks(ticks := log_ticks(*panel.x_range), [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(even_ticks(*panel.y_range))
    axes.grid(alpha=0.25)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8, frameon=False,
        title=_wrapped(panel.note, 95), title_fontsize=8,
    )  # fmt: skip


def _wrapped(text: str, letters: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, letters))
