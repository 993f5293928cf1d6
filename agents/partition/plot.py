"""A planned partition as a PNG: what crosses at each cut, what comes before it, and where the plan cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...envs.files import atomic_write_bytes
from ..plots import COLOURS, canvas, picture_bytes, require_matplotlib
from .result import Partition, words


def write_plot(result: Partition, file: str | Path) -> Path:
    """Draw kilobytes at each boundary as bars, and the share of the cost before it as a line."""
    require_matplotlib()
    figure, axes = canvas(10.0, 5.0)
    problem = result.problem
    places = np.arange(problem.blocks)
    axes.bar(places, problem.crossing_kb, color=COLOURS[5], width=0.8)
    axes.set_yscale("log")
    axes.set_ylabel(f"crosses, kB ({result.wire}; input: payload)")
    axes.set_xlabel("boundary: input, cuts in the order of execution")
    step = max(1, len(places) // 20)
    names = [name.removeprefix("cut-").lstrip("0") for name in problem.boundaries[:-1]]
    axes.set_xticks(places[::step], names[::step], fontsize=8)
    share = axes.twinx()
    before = np.concatenate([[0.0], result.costs.values.cumsum()[[cut.after for cut in result.cuts]]])
    share.plot(places, 100 * before / result.costs.total, color=COLOURS[1], linewidth=2)
    share.set_ylabel(f"cost before it, % ({result.costs.kind})", color=COLOURS[1])
    share.set_ylim(0, 100)
    share.spines["top"].set_visible(False)
    for part in result.best.stretches[:-1]:
        axes.axvline(part.last, color="black", linewidth=1.2)
        axes.text(part.last, 1.01, problem.boundaries[part.last], transform=axes.get_xaxis_transform(), ha="center",
                  fontsize=8)  # fmt: skip
    axes.set_title(
        f"{result.graph.path.name}, best {result.objective}: {words(problem, result.best)} "
        f"({result.best.latency_ms:.1f} ms, {result.best.carbon_mg:.3g} mg)",
        fontsize=11,
        pad=18,
    )
    atomic_write_bytes(Path(file), picture_bytes(figure))
    return Path(file)
