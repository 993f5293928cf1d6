"""The three pictures of a benchmark: latency, carbon against misses, placements over time.

Drawn with matplotlib's objects, without pyplot, so nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..envs.errors import MissingExtraError
from ..envs.files import atomic_write_bytes
from .benchmark_result import BenchmarkResult
from .policy_result import PolicyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
# Okabe and Ito's palette, told apart with any common colour blindness (jfly.uni-koeln.de/color, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
# In the order of the legend. Learned policies and the oracle are solid, rules dashed, static ones dotted.
KIND_STYLES: dict[str, dict[str, Any]] = {
    "learned": {
        "colours": ("#D55E00", "#CC79A7", "#E69F00"),
        "linestyle": "-",
        "linewidth": 2.6,
        "zorder": 5,
    },
    "oracle": {"colours": ("#000000", "#777777"), "linestyle": "-", "linewidth": 2.2, "zorder": 2},
    "rule": {
        "colours": ("#0072B2", "#009E73", "#56B4E9", "#E69F00"),
        "linestyle": (0, (5, 2)),
        "linewidth": 1.5,
        "zorder": 4,
    },
    "static": {"colours": COLOURS, "linestyle": (0, (1, 1.2)), "linewidth": 1.5, "zorder": 3},
}
MARKERS = {"static": "s", "rule": "o", "oracle": "*", "learned": "D"}


def require_matplotlib() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("Drawing plots", "train") from None


def draw_plots(result: BenchmarkResult) -> dict[str, bytes]:
    """Draw everything: file name -> PNG."""
    require_matplotlib()
    return {
        "latency_cdf.png": picture_bytes(latency_cdf(result)),
        "carbon_vs_misses.png": picture_bytes(carbon_against_misses(result)),
        "placements_over_time.png": picture_bytes(placements_over_time(result)),
    }


def write_plots(result: BenchmarkResult, folder: str | Path) -> list[Path]:
    """Draw everything into a folder, replacing pictures of the same names, and return their paths."""
    written = []
    for name, content in draw_plots(result).items():
        atomic_write_bytes(Path(folder) / name, content)
        written.append(Path(folder) / name)
    return written


def latency_cdf(result: BenchmarkResult) -> Figure:
    """Share of the requests answered within a latency, the tail spread out, with the SLO lines."""
    slo = result.scenario.slo
    figure, axes = canvas(9.0, 5.4)
    quantiles = np.linspace(0, 1, len(result.results[0].latency_cdf_ms))
    for policy, style in _styled(result):
        # The share still waiting, on a logarithmic axis: that is where the objective lies.
        axes.plot(policy.latency_cdf_ms, 1 - quantiles, label=policy.name, **style)
    axes.axvline(slo.latency_ms, color="black", linewidth=1)
    axes.axhline(1 - slo.quantile, color="black", linewidth=1)
    above = axes.get_xaxis_transform()
    axes.text(slo.latency_ms, 1.01, f"SLO {slo.latency_ms:g} ms", transform=above, ha="center", fontsize=9)
    axes.set_yscale("log")
    axes.set_ylim(0.003, 1.0)
    ticks = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005]
    axes.set_yticks(ticks, [f"{100 * (1 - t):g} %" for t in ticks])
    axes.set_yticks([], minor=True)
    axes.invert_yaxis()
    axes.set_xlim(0, 2.5 * slo.latency_ms)
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("requests answered within it")
    _finish(figure, axes, f"{_title(result)}: latency of all requests")
    return figure


def carbon_against_misses(result: BenchmarkResult) -> Figure:
    """Carbon per request against the share of requests that miss the SLO, with 95 % intervals."""
    figure, axes = canvas(9.0, 5.4)
    limit = 100 * (1 - result.scenario.slo.quantile)
    for policy, style in _styled(result):
        estimates = result.estimates[policy.name]
        misses, carbon = estimates["slo_miss_rate"], estimates["carbon_mg_per_request"]
        x, y = 100 * (misses.mean or 0.0), carbon.mean or 0.0
        colour, order = style["color"], style["zorder"]
        axes.errorbar(x, y, _bars(carbon, 1), _bars(misses, 100), color=colour, capsize=2, zorder=order)
        axes.plot(
            x,
            y,
            MARKERS[policy.kind],
            color=colour,
            markersize=13 if policy.kind == "oracle" else 8,
            markerfacecolor=colour if policy.complies else "white",
            label=policy.name,
            zorder=order + 1,
        )
    axes.axvspan(limit, 100, color="#000000", alpha=0.06, linewidth=0)
    axes.axvline(limit, color="black", linewidth=1)
    axes.text(limit, 1.01, f"{limit:g} %", transform=axes.get_xaxis_transform(), ha="center", fontsize=9)
    axes.set_xscale("symlog", linthresh=5, linscale=1.5)
    axes.set_xlim(-0.2, 100)
    ticks = [0, 1, 2, 3, 4, 5, 10, 20, 50, 100]
    axes.set_xticks(ticks, [f"{t} %" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("requests that miss the SLO")
    axes.set_ylabel(f"CO2 per request, mg ({result.scenario.account} account)")
    _finish(figure, axes, f"{_title(result)}: carbon against misses", "filled: complies, open: does not")
    return figure


def placements_over_time(result: BenchmarkResult) -> Figure:
    """Share of each placement over the course of the episode; a panel per policy that is not static."""
    shown = [policy for policy, _ in _styled(result) if policy.kind != "static"]
    columns = 3 if len(shown) <= 6 else 4
    lines = -(-len(shown) // columns)
    figure = _figure(10.0, 1.2 + 2.0 * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    names = [p.name for p in result.scenario.placements]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    for axes, policy in zip(grid.flat, shown, strict=False):
        axes.stackplot(policy.time, 100 * policy.time_shares, labels=names, colors=colours, linewidth=0)
        axes.set_title(policy.name, fontsize=10, fontweight="bold" if policy.kind == "learned" else "normal")
        axes.set_xlim(0, result.scenario.episode.requests)
        axes.set_ylim(0, 100)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for i in range(columns):
        lowest = [axes for axes in grid[:, i] if axes.get_visible()]
        if lowest:
            lowest[-1].set_xlabel("request")
            lowest[-1].tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("requests, %")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 6), frameon=False)
    figure.suptitle(f"{_title(result)}: where the requests went", fontsize=11)
    return figure


def _title(result: BenchmarkResult) -> str:
    return f"{result.scenario.name}, {result.episodes} {result.part} tapes"


def _styled(result: BenchmarkResult) -> list[tuple[PolicyResult, dict[str, Any]]]:
    """Policies in the order of the legend with their line styles; learned ones and the oracle stand out."""
    styled = []
    for kind, style in KIND_STYLES.items():
        shown = [r for r in result.entries if r.kind == kind]
        colours = style["colours"]
        for i, policy in enumerate(shown):
            line = {k: v for k, v in style.items() if k != "colours"}
            styled.append((policy, {**line, "color": colours[i % len(colours)]}))
    return styled


def _bars(estimate: Any, factor: float) -> list[list[float]] | None:
    """Lengths of an error bar below and above the mean."""
    if estimate.low is None:
        return None
    return [
        [factor * max(0.0, estimate.mean - estimate.low)],
        [factor * max(0.0, estimate.high - estimate.mean)],
    ]


def _figure(width_inch: float, height_inch: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inch, height_inch), dpi=DPI, layout="constrained")


def canvas(width_inch: float, height_inch: float) -> tuple[Figure, Any]:
    """A figure with one plain pair of axes."""
    figure = _figure(width_inch, height_inch)
    axes = figure.subplots()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


# Of 9 points with its spacing, as matplotlib lays it out; a legend longer than the figure is cut off at both ends.
_LEGEND_LINE_INCH = 0.21


def _finish(figure: Figure, axes: Any, title: str, legend_title: str | None = None) -> None:
    axes.set_title(title, fontsize=11, loc="left", pad=18)
    legend = figure.legend(
        loc="outside right center", frameon=False, fontsize=9, title=legend_title, title_fontsize=8
    )
    lines = len(legend.get_texts()) + (legend_title is not None)
    figure.set_figheight(max(figure.get_figheight(), _LEGEND_LINE_INCH * (lines + 1)))


def picture_bytes(figure: Figure) -> bytes:
    """The figure as PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
