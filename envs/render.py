"""What an episode looks like: placements, latency against the SLO, carbon; as an image or as text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .render_panels import Panel, draw_panels
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
        first = max(0, len(self.placement) - WINDOW)
        placement = np.array(self.placement[first:], dtype=int)
        latency, carbon = np.array(self.latency_ms[first:]), np.array(self.carbon_mg[first:])
        slo_ms, most_mg = self.slo.latency_ms, max(float(carbon.max(initial=0.0)), 1e-9)
        names = {name: float(i) for i, name in enumerate(self.names)}
        panels = (
            Panel(placement, len(names) - 0.5, names, bottom=-0.5),
            Panel(latency, 3 * slo_ms, {f"{k * slo_ms:g} ms": k * slo_ms for k in (0, 1, 2, 3)}, line=slo_ms),
            Panel(carbon, most_mg, {"0 mg": 0.0, f"{most_mg:.3g} mg": most_mg}),
        )
        title = f"{self.title}: placement, latency and carbon of the last {len(placement)} requests"
        foot = f"request (dashed line: SLO {slo_ms:g} ms; later than {3 * slo_ms:g} ms is drawn there)"
        return draw_panels(title, foot, first, panels, [COLOURS[p % len(COLOURS)] for p in placement])
