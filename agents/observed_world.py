"""What the world looked like during the benchmark's episodes, as a device sees it: round-trip times, intensities.

Read from the observation and not from the tape, so that every kind of clock and arrival has it, and because it is
what the policies decided from: probed and smoothed round-trip times, and the grid feed's values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.observation import build_table
from ..envs.schema import Scenario

F32 = npt.NDArray[np.float32]
DEVICE = "device"
MOST = 256  # episodes that are kept; enough to look at, whatever --episodes says


@dataclass(frozen=True)
class ObservedWorld:
    """Observed numbers by request and (up to 256) episodes; NaN where an episode was over.

    Attributes:
        seen_by: the policy that was playing; in a closed loop other policies see other moments.
        rtt_ms: link -> smoothed probes (N, B), ms.
        carbon_g_per_kwh: "device" or node -> what the grid feed showed (N, B), g/kWh.
    """

    seen_by: str
    rtt_ms: dict[str, F32]
    carbon_g_per_kwh: dict[str, F32]


class WorldWatch:
    """Notes the world's features while a policy plays; give it to `run_policy` as ``watch``."""

    def __init__(self, scenario: Scenario) -> None:
        """Find the features of the scenario that show the world."""
        table = build_table(scenario)
        self._rtt = [name for name in scenario.links if f"{name}_rtt_ms" in table.index]
        sites = [DEVICE, *scenario.nodes]
        self._grids = [name for name in sites if f"{name}_carbon_g_per_kwh" in table.index]
        names = [f"{n}_rtt_ms" for n in self._rtt] + [f"{n}_carbon_g_per_kwh" for n in self._grids]
        self._columns = [table.index[name] for name in names]
        self._scale = table.scale[self._columns]
        self._requests = scenario.episode.requests
        self._chunks: list[F32] = []

    def __call__(self, request: int, observation: F32) -> None:
        """Keep the waiting requests' features; request 0 starts a new chunk of episodes."""
        if request == 0:
            kept = min(len(observation), MOST - sum(chunk.shape[1] for chunk in self._chunks))
            self._chunks.append(np.full((self._requests, kept, len(self._columns)), np.nan, dtype=np.float32))
        chunk = self._chunks[-1]
        chunk[request] = observation[: chunk.shape[1], self._columns] * self._scale

    def world(self, seen_by: str, valid: npt.NDArray[np.bool_]) -> ObservedWorld:
        """Everything that was noted, without what came after an episode's end (``valid`` (N, B))."""
        seen = np.concatenate(self._chunks, axis=1)
        seen[~valid[:, : seen.shape[1]]] = np.nan
        columns = [seen[:, :, i] for i in range(len(self._columns))]
        links = len(self._rtt)
        return ObservedWorld(
            seen_by,
            dict(zip(self._rtt, columns[:links], strict=True)),
            dict(zip(self._grids, columns[links:], strict=True)),
        )


def over_time(values: F32, bins: int, quantiles: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Quantiles over the episodes in consecutive stretches of the episode, (N, B) to (Q, T).

    Each episode's mean over a stretch counts once; NaN where no episode got so far.
    """
    edges = np.unique(np.linspace(0, len(values), bins + 1).astype(np.int64))
    there = np.isfinite(values)
    total = np.add.reduceat(np.where(there, values, 0.0), edges[:-1], axis=0, dtype=np.float64)
    count = np.add.reduceat(there, edges[:-1], axis=0, dtype=np.int64)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    found = np.full((len(quantiles), len(means)), np.nan)
    for t, row in enumerate(means):
        known = row[np.isfinite(row)]
        if known.size:
            found[:, t] = np.quantile(known, quantiles)
    return found
