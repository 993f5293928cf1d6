"""Curves of a run for TensorBoard, from its records; called in the log's thread."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from ..log_records import FrameRecord, Header, Record
from .event_file import EventFile
from .quantile import quantile


class Curves:
    """Sums up frames and writes a point of each curve every so often.

    Args:
        folder: for ``tensorboard --logdir``.
        header: of the run.
        interval_s: between points.
    """

    def __init__(self, folder: Path, header: Header, interval_s: float = 10.0) -> None:
        self._file = EventFile(folder, time.time(), header.run)
        self._slo_ms, self._interval_s = header.slo_ms, interval_s
        self._frames: list[FrameRecord] = []
        self._last_s = time.monotonic()

    def __call__(self, record: Record) -> None:
        """Take a record."""
        if isinstance(record, FrameRecord):
            self._frames.append(record)
            if time.monotonic() - self._last_s >= self._interval_s:
                self.flush()

    def flush(self) -> None:
        """Write a point of what has come in."""
        self._last_s = time.monotonic()
        frames, self._frames = self._frames, []
        if frames:
            self._file.scalars(time.time(), frames[-1].frame, points(frames))

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        self._file.close()


def points(frames: list[FrameRecord]) -> dict[str, float]:
    """The curves' values over some frames; what is not known of any of them is left out."""
    count = len(frames)
    latencies = [f.latency_ms for f in frames if f.latency_ms is not None]
    carbon = [f.carbon_mg_marginal for f in frames if f.carbon_mg_marginal is not None]
    overhead = [f.overhead_ms for f in frames if f.overhead_ms is not None]
    values = {
        "slo/miss_rate": sum(f.missed for f in frames) / count,
        "energy/j_per_frame": sum(f.energy_j_marginal for f in frames) / count,
        "decisions/by_policy": sum(f.reason == "policy" for f in frames) / count,
        "decisions/fallbacks": sum(f.fallback not in (None, "shadow") for f in frames) / count,
        "decisions/decision_us": quantile([f.decision_us for f in frames], 0.5),
    }
    if latencies:
        values.update({f"latency/p{q}_ms": quantile(latencies, q / 100) for q in (50, 95, 99)})
    if carbon:
        values["carbon/mg_per_frame"] = sum(carbon) / len(carbon)
    if overhead:
        values["latency/overhead_ms"] = quantile(overhead, 0.5)
    for placement, n in Counter(f.executed for f in frames).items():
        values[f"placement/{placement or 'no-result'}"] = n / count
    return values
