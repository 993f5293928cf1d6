"""The front of a dial as a PNG."""

from __future__ import annotations

from pathlib import Path

from ..envs.files import atomic_write_bytes
from .dial_lines import PRESET_LINE
from .pareto import ACCURACY, MISSES, ParetoResult
from .pareto_report import preset_names
from .plots import KIND_STYLES, MARKERS, canvas, picture_bytes

SHOWN = 1.3  # others are drawn up to so many times the dirtiest position's carbon


def write_plot(result: ParetoResult, file: str | Path) -> Path:
    """Draw CO2 against accuracy, with intervals; the share of misses stands beside each preset."""
    figure, axes = canvas(9.0, 5.4)
    colour = KIND_STYLES["learned"]["colours"][0]
    line = [result.played[p.key] for p in result.line(PRESET_LINE)]
    axes.plot(
        [r.carbon_mg for r in line], [r.metrics[ACCURACY].mean() for r in line], color=colour, linewidth=1.5
    )
    named = preset_names(result)
    for key, played in result.played.items():
        estimates = result.estimates(played)
        carbon, accuracy = estimates["carbon_mg_per_request"], estimates[ACCURACY]
        x, y = played.carbon_mg, float(played.metrics[ACCURACY].mean())
        if key in named:
            if carbon.low is not None and carbon.high is not None:
                axes.hlines(y, carbon.low, carbon.high, color=colour)
            if accuracy.low is not None and accuracy.high is not None:
                axes.vlines(x, accuracy.low, accuracy.high, color=colour)
            missed = 100 * float(played.metrics[MISSES].mean())
            axes.annotate(
                f"{named[key]}\n{missed:.1f} % missed", (x, y), (10, -28), textcoords="offset points"
            )
        axes.plot(
            x, y, MARKERS["learned"], color=colour, markersize=9 if key in named else 5,
            markerfacecolor=colour if played.complies else "white",
        )  # fmt: skip
    dirtiest = max(r.carbon_mg for r in result.played.values())
    for kind in ("rule", "static"):
        for other in (r for r in result.others if r.kind == kind and r.carbon_mg <= SHOWN * dirtiest):
            x, y = other.carbon_mg, float(other.metrics[ACCURACY].mean())
            tone = KIND_STYLES[kind]["colours"][0]
            filled = tone if other.complies else "white"
            axes.plot(x, y, MARKERS[kind], color=tone, markersize=7, markerfacecolor=filled)
            axes.annotate(
                other.name,
                (x, y),
                (0, 8),
                textcoords="offset points",
                fontsize=8,
                color=tone,
                rotation=55,
                ha="left",
            )
    axes.margins(0.08, 0.12)
    axes.set_xlabel(f"CO2 per request, mg ({result.scenario.account} account)")
    axes.set_ylabel("expected accuracy, mIoU %")
    axes.set_title(
        f"{result.scenario.name}: {result.policy}, {result.episodes} {result.part} tapes (open: does not comply)",
        fontsize=11,
    )
    atomic_write_bytes(Path(file), picture_bytes(figure))
    return Path(file)
