"""The picture of the two case studies: predictions, what was got, and what the manager chose (as Figs. 6 and 7)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..envs.files import atomic_write_bytes
from .ng_timelines import Timeline
from .plots import COLOURS, DPI, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "ng-timelines.png"
TITLES = {
    "ng-network": "Case 1: MobileNetV2 at 10 RPS, the network changes (Fig. 6)",
    "ng-tenants": "Case 2: YOLOv8n at 10 RPS, the servers' tenants change (Fig. 7)",
}
LABELS = {"local": "on the device", "e1": "offloading to E1", "e2": "offloading to E2"}
ROOM = 2.6  # height of a panel over the largest prediction that matters


def write_plot(timelines: dict[str, Timeline], folder: str | Path) -> Path:
    """Draw both case studies into a folder, replacing a picture of the same name, and return its path.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the folder cannot be written.
    """
    require_matplotlib()
    path = Path(folder) / NAME
    atomic_write_bytes(path, draw(list(timelines.values())))
    return path


def draw(timelines: list[Timeline]) -> bytes:
    """Both case studies, one under the other, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 8.0), dpi=DPI, layout="constrained")
    grid = figure.subplots(2 * len(timelines), 1, height_ratios=[5, 0.5] * len(timelines))
    for i, timeline in enumerate(timelines):
        _latencies(grid[2 * i], timeline)
        _choices(grid[2 * i + 1], timeline)
    return _png(figure)


def _latencies(axes: Any, timeline: Timeline) -> None:
    for i, name in enumerate(timeline.placements):
        axes.plot(timeline.time_s, timeline.predicted_ms[:, i], color=COLOURS[i], linewidth=1.6,
                  linestyle=(0, (4, 1.5)), label=f"predicted {LABELS[name]}")  # fmt: skip
    axes.plot(
        timeline.time_s, timeline.latency_ms, color="black", linewidth=1.4, label="what was chosen, simulated"
    )
    top = ROOM * max(s.forms_ms[timeline.placements.index(s.expected)] for s in timeline.stretches)
    axes.set_ylim(0, top)
    axes.set_xlim(0, timeline.stretches[-1].end_s)
    for s in timeline.stretches:
        axes.axvline(s.start_s, color="#999999", linewidth=0.8)
        x = (s.start_s + s.end_s) / 2
        axes.text(
            x, 0.97 * top, f"{s.condition}\npaper: {LABELS[s.expected]}", ha="center", va="top", fontsize=8.5
        )
    axes.set_ylabel("latency, ms")
    axes.set_title(TITLES[timeline.scenario], loc="left", fontsize=11)
    axes.tick_params(labelbottom=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8.5)


def _choices(axes: Any, timeline: Timeline) -> None:
    width = float(np.diff(timeline.time_s[:2])[0])
    bottom = np.zeros(len(timeline.time_s))
    for i in range(len(timeline.placements)):
        axes.bar(timeline.time_s, timeline.shares[:, i], width, bottom, color=COLOURS[i], linewidth=0)
        bottom += timeline.shares[:, i]
    axes.set_xlim(0, timeline.stretches[-1].end_s)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("chosen", rotation=0, ha="right", va="center", fontsize=8.5)
    axes.set_xlabel("time, s")


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
