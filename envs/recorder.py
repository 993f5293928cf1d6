"""Keeps what happened in the running episodes and sums it up when one ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .outcome import REWARD_TERMS, Outcome
from .schema import Scenario

_NUMBERS = ("latency_ms", "carbon_mg", "energy_j", "accuracy_miou", "missed")


class Recorder:
    """Histories (N, B) of the running episodes of a batch, with a write position per episode."""

    def __init__(self, scenario: Scenario, batch: int) -> None:
        """Reserve the histories."""
        n = scenario.episode.requests
        self.names = [p.name for p in scenario.placements]
        self.values = {key: np.zeros((n, batch), dtype=np.float32) for key in (*_NUMBERS, *REWARD_TERMS)}
        self.placement = np.zeros((n, batch), dtype=np.int8)
        self.position = np.zeros(batch, dtype=np.int64)
        self._columns = np.arange(batch)

    def add(self, o: Outcome) -> None:
        """Store one outcome per episode."""
        rows = self.position
        for key in _NUMBERS:
            self.values[key][rows, self._columns] = getattr(o, key)
        for key in REWARD_TERMS:
            self.values[key][rows, self._columns] = o.reward_terms[key]
        self.placement[rows, self._columns] = o.placement
        self.position = rows + 1

    def close(self, columns: npt.NDArray[np.intp]) -> list[dict[str, Any]]:
        """Metrics of the episodes in ``columns``, which then start afresh."""
        metrics = [self._metrics(int(c)) for c in columns]
        self.position[columns] = 0
        return metrics

    def _metrics(self, c: int) -> dict[str, Any]:
        n = self.position[c]
        column = {key: table[:n, c] for key, table in self.values.items()}
        p50, p95, p99 = np.percentile(column["latency_ms"], (50, 95, 99))
        counts = np.bincount(self.placement[:n, c], minlength=len(self.names)) / n
        terms = {f"reward_{key}": float(column[key].mean()) for key in REWARD_TERMS}
        return {
            "requests": int(n),
            "return": float(sum(column[key].sum(dtype=np.float64) for key in REWARD_TERMS)),
            "carbon_mg_per_request": float(column["carbon_mg"].mean()),
            "energy_j_per_request": float(column["energy_j"].mean()),
            "latency_p50_ms": float(p50),
            "latency_p95_ms": float(p95),
            "latency_p99_ms": float(p99),
            "slo_miss_rate": float(column["missed"].mean()),
            "accuracy_miou": float(column["accuracy_miou"].mean()),
            "placement_share": dict(zip(self.names, counts.tolist(), strict=True)),
            **terms,
        }
