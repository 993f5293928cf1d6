"""The picture of the weight sweep: carbon and latency as in Fig. 3, and the chosen node under every reading."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ..envs.errors import MissingExtraError
from . import carbonedge_paper as paper
from .carbonedge_sweep import STEP, WEIGHTS_C, Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "carbonedge-sweep.png"
DPI = 150
# Okabe and Ito's palette, told apart with any common colour blindness (jfly.uni-koeln.de/color, 2008).
NODE_COLOURS = {"high": "#D55E00", "medium": "#999999", "green": "#009E73"}
CARBON_COLOUR, LATENCY_COLOUR = "#000000", "#0072B2"
READING_TEXT = {
    "printed ranges": "printed ranges (S_C 0.054, S_P 0.166)",
    "calibrated": "calibrated energies, as published (Wh)",
    "Table II's latencies": "Table II's latencies in S_P",
    "true kWh": "calibrated energies, true kWh",
    "min-max": "S_C min-max per decision",
}


def require_matplotlib() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("Drawing the weight sweep", "train") from None


def draw(sweeps: list[Sweep]) -> bytes:
    """Draw the sweeps, the first in READING_TEXT's order on top: PNG."""
    from matplotlib.figure import Figure

    made = {s.reading: s for s in sweeps}
    ordered = [made[name] for name in READING_TEXT if name in made]
    figure = Figure(figsize=(8.4, 6.4), dpi=DPI, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2.4))
    _trade_off(top, ordered[0])
    _choices(bottom, ordered)
    figure.suptitle("CarbonEdge, MobileNetV2: weight sweep, played in the simulator", fontsize=12)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _trade_off(axes: Any, made: Sweep) -> None:
    """Carbon and latency over w_C."""
    carbon = [1000 * f.carbon_g for f in made.figures]
    (first,) = axes.plot(
        WEIGHTS_C, carbon, "o-", color=CARBON_COLOUR, label="carbon", drawstyle="steps-post", ms=4
    )
    axes.set_ylabel("CO2, mg per inference")
    axes.set_ylim(0, 1.25 * max(carbon))
    axes.grid(color="#dddddd", linewidth=0.6)
    right = axes.twinx()
    latency = [f.latency_ms for f in made.figures]
    (second,) = right.plot(
        WEIGHTS_C, latency, "s--", color=LATENCY_COLOUR, label="latency", drawstyle="steps-post", ms=3
    )
    right.set_ylim(0, 1.6 * max(latency))  # so that the two lines lie apart
    right.set_ylabel("latency, ms", color=LATENCY_COLOUR)
    right.tick_params(axis="y", colors=LATENCY_COLOUR)
    axes.axvline(paper.SWITCH_WEIGHT, color="black", linewidth=1, linestyle=":")
    axes.text(
        paper.SWITCH_WEIGHT + 0.01,
        1.17 * max(carbon),
        f"printed: w_C ≥ {paper.SWITCH_WEIGHT:.2f}",
        fontsize=9,
    )
    axes.legend(handles=[first, second], loc="lower left", frameon=False, fontsize=9)
    axes.set_title(f"Reading: {READING_TEXT[made.reading]}", fontsize=10, loc="left")
    axes.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)


def _choices(axes: Any, sweeps: list[Sweep]) -> None:
    """A strip for each reading, coloured by the node that got most."""
    for line, made in enumerate(reversed(sweeps)):
        for carbon, figures in zip(WEIGHTS_C, made.figures, strict=True):
            node = max(NODE_COLOURS, key=figures.share_pct.__getitem__)
            axes.barh(line, STEP, left=carbon, height=0.7, color=NODE_COLOURS[node], linewidth=0)
        axes.text(1.06, line, "-" if made.switch is None else f"{made.switch:.2f}", va="center", fontsize=9)
    axes.text(1.06, len(sweeps) - 0.35, "switch", fontsize=9)
    axes.set_yticks(range(len(sweeps)), [READING_TEXT[s.reading] for s in reversed(sweeps)], fontsize=9)
    axes.axvline(paper.SWITCH_WEIGHT, color="black", linewidth=1, linestyle=":")
    axes.set_xlim(0, 1 + STEP)
    axes.set_xlabel("w_C; the other weights share 1 - w_C in Performance's proportions")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _legend(axes.figure)


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    grids = {name: f"Node-{name.title()}, {n.carbon_g_per_kwh:g} g/kWh" for name, n in paper.NODES.items()}
    handles = [Patch(color=NODE_COLOURS[name], label=text) for name, text in grids.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
