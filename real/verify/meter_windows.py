"""Windows of the run's meters against what the simulator says the same requests took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..log_records import EnergyRecord

LEAST_WINDOWS = 3
_DEVICE = ("device module", "SoC part", "CPU package", "host")  # scopes whose joules are the device's


@dataclass(frozen=True)
class MeterFigure:
    """One meter over all its windows without gaps that hold requests.

    Attributes:
        meter, scope: which.
        windows: how many.
        requests: sent in them.
        net_j: measured above idle.
        predicted_j: of the device in the same requests.
    """

    meter: str
    scope: str
    windows: int
    requests: int
    net_j: float
    predicted_j: float


def meter_figures(
    energies: list[tuple[str, EnergyRecord]], stretches: list[Any], plays: list[Any]
) -> list[MeterFigure]:
    """Sum up the device's meters.

    Args:
        energies: each window with the name of its run.
        stretches, plays: of the verification, in the same order.
    """
    sums: dict[tuple[str, str], np.ndarray] = {}
    for run, window in energies:
        if window.scope not in _DEVICE or window.net_j is None or window.gaps_s > 0:
            continue
        count, joules = 0, 0.0
        for s, played in zip(stretches, plays, strict=True):
            if s.run != run:
                continue
            inside = (s.requests.arrival_ms >= window.start_ms) & (s.requests.arrival_ms < window.end_ms)
            count += int(inside.sum())
            joules += float(played.device_j[inside].mean(axis=1).sum()) if inside.any() else 0.0
        if count:
            key = (window.meter, window.scope)
            sums[key] = sums.get(key, np.zeros(4)) + np.array([1, count, window.net_j, joules])
    return [
        MeterFigure(*key, int(v[0]), int(v[1]), float(v[2]), float(v[3]))
        for key, v in sums.items()
        if v[0] >= LEAST_WINDOWS
    ]
