"""Curves of a run for TensorBoard, from its records; called in the log's thread."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..log_records import FrameRecord, Header, Record
from .event_file import EventFile
from .quantile import quantile


@dataclass(frozen=True)
class _Point:
    """What the curves need of a frame; its whole record would be a hundred times as large."""

    frame: int
    latency_ms: float | None
    missed: bool
    executed: str | None
    by_policy: bool
    fell_back: bool
    decision_us: float
    overhead_ms: float | None
    energy_j: float | None
    carbon_mg: float | None


class Curves:
    """Sums up frames and writes a point of each curve every so often.

    Args:
        folder: for ``tensorboard --logdir``.
        header: of the run.
        interval_s: between points.
    """

    def __init__(self, folder: Path, header: Header, interval_s: float = 10.0) -> None:
        self._file = EventFile(folder, time.time(), header.run)
        self._interval_s = interval_s
        self._points: list[_Point] = []
        self._last_s = time.monotonic()

    def __call__(self, record: Record) -> None:
        """Take a record."""
        if isinstance(record, FrameRecord):
            self._points.append(_point(record))
            if time.monotonic() - self._last_s >= self._interval_s:
                self.flush()

    def flush(self) -> None:
        """Write a point of what has come in."""
        self._last_s = time.monotonic()
        points, self._points = self._points, []
        if points:
            self._file.scalars(time.time(), points[-1].frame, _values(points))

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        self._file.close()


def _point(r: FrameRecord) -> _Point:
    fell_back = r.fallback not in (None, "shadow")
    return _Point(
        r.frame, r.latency_ms, r.missed, r.executed, r.reason == "policy", fell_back, r.decision_us, r.overhead_ms,
        r.energy_j_marginal, r.carbon_mg_marginal,
    )  # fmt: skip


def _values(points: list[_Point]) -> dict[str, float]:
    """The curves' values over some frames; what is not known of any of them is left out."""
    count = len(points)
    latencies = [p.latency_ms for p in points if p.latency_ms is not None]
    energy = [p.energy_j for p in points if p.energy_j is not None]
    carbon = [p.carbon_mg for p in points if p.carbon_mg is not None]
    overhead = [p.overhead_ms for p in points if p.overhead_ms is not None]
    values = {
        "slo/miss_rate": sum(p.missed for p in points) / count,
        "decisions/by_policy": sum(p.by_policy for p in points) / count,
        "decisions/fallbacks": sum(p.fell_back for p in points) / count,
        "decisions/decision_us": quantile([p.decision_us for p in points], 0.5),
    }
    if latencies:
        values.update({f"latency/p{q}_ms": quantile(latencies, q / 100) for q in (50, 95, 99)})
    if energy:
        values["energy/j_per_frame"] = sum(energy) / len(energy)
    if carbon:
        values["carbon/mg_per_frame"] = sum(carbon) / len(carbon)
    if overhead:
        values["latency/overhead_ms"] = quantile(overhead, 0.5)
    for placement, n in Counter(p.executed for p in points).items():
        values[f"placement/{placement or 'no-result'}"] = n / count
    return values
