"""What an episode looks like: placements, latency against the SLO, carbon; as an image or as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MissingExtraError
from .schema import Scenario

WINDOW = 200  # requests shown
# Okabe and Ito's colours, told apart by colour-blind people too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


class EpisodeView:
    """Collects the outcomes of one episode and draws them."""

    def __init__(self, scenario: Scenario) -> None:
        """Read names and the objective from the scenario."""
        self.names = [p.name for p in scenario.placements]
        self.slo = scenario.slo
        self.title = scenario.name
        self.clear()

    def clear(self) -> None:
        """Forget the episode."""
        self.placement: list[int] = []
        self.latency_ms: list[float] = []
        self.carbon_mg: list[float] = []

    def add(self, o: np.void) -> None:
        """Note one outcome, a record of type `OUTCOME`."""
        self.placement.append(int(o["placement"]))
        self.latency_ms.append(float(o["latency_ms"]))
        self.carbon_mg.append(float(o["carbon_mg"]))

    def show(self, placement: npt.NDArray, latency_ms: npt.NDArray, carbon_mg: npt.NDArray) -> None:
        """Take over a whole episode, one number per request (N,)."""
        self.placement, self.latency_ms, self.carbon_mg = (
            placement.tolist(),
            latency_ms.tolist(),
            carbon_mg.tolist(),
        )

    def text(self) -> str:
        """The last requests as lines of text, and a summary."""
        lines = [f"{self.title}: {len(self.latency_ms)} requests placed"]
        if self.latency_ms:
            misses = np.mean(np.array(self.latency_ms) > self.slo.latency_ms)
            p95 = np.quantile(self.latency_ms, self.slo.quantile)
            lines.append(
                f"p{100 * self.slo.quantile:.0f} {p95:.1f} ms (SLO {self.slo.latency_ms:g} ms), "
                f"misses {misses:.1%}, carbon {np.mean(self.carbon_mg):.3f} mg/request"
            )
        for n in range(max(0, len(self.latency_ms) - 10), len(self.latency_ms)):
            late = "  MISS" if self.latency_ms[n] > self.slo.latency_ms else ""
            lines.append(
                f"{n:6d}  {self.names[self.placement[n]]:<16s} {self.latency_ms[n]:8.1f} ms "
                f"{self.carbon_mg[n]:8.3f} mg{late}"
            )
        return "\n".join(lines) + "\n"

    def image(self) -> npt.NDArray[np.uint8]:
        """Three panels over the last requests, (H, W, 3)."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise MissingExtraError("render_mode='rgb_array'", "train") from None
        figure = Figure(figsize=(8, 6), dpi=80, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        top, middle, bottom = figure.subplots(3, 1, sharex=True)
        self._draw(top, middle, bottom)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def _draw(self, top: Any, middle: Any, bottom: Any) -> None:
        first = max(0, len(self.placement) - WINDOW)
        x = np.arange(first, len(self.placement))
        placement = np.array(self.placement[first:], dtype=int)
        latency, carbon = np.array(self.latency_ms[first:]), np.array(self.carbon_mg[first:])
        for p, name in enumerate(self.names):
            chosen, colour = placement == p, COLOURS[p % len(COLOURS)]
            top.scatter(x[chosen], placement[chosen], s=12, color=colour)
            middle.scatter(x[chosen], latency[chosen], s=10, color=colour, label=name)
            bottom.scatter(x[chosen], carbon[chosen], s=10, color=colour)
        top.set_yticks(range(len(self.names)), self.names)
        top.set_ylim(-0.5, len(self.names) - 0.5)
        top.set_title(f"{self.title}: placement, latency and carbon of the last {len(x)} requests")
        middle.axhline(self.slo.latency_ms, color="black", linestyle="--", linewidth=1)
        middle.set_ylabel("latency (ms)")
        middle.set_ylim(0, 3 * self.slo.latency_ms)
        bottom.set_ylabel("carbon (mg)")
        bottom.set_xlabel(f"request (dashed line: SLO {self.slo.latency_ms:g} ms)")
