"""Cleanest zone with a guard: the cleanest placement among those that are believed to meet the SLO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..envs.schema import Scenario
from .baselines import BatchRule, Choice, Mask, Observation, ObservationReader
from .predictive_view import PlacementView
from .tunable import Tunable


class CleanestZoneSlo(BatchRule):
    """As `CleanestZone`, but a placement whose believed latency and margin exceed the SLO does not count."""

    name = "cleanest-zone-slo"
    TUNABLES = (
        Tunable("margin_ms", -50, 100, 20, meaning="safety margin of a remote placement"),
        Tunable("rtt_share", 0, 4, 1, meaning="further round trips expected on top of the believed one"),
        Tunable("deviation_share", 0, 8, 1, meaning="of the smoothed deviation of the RTT, on top"),
        Tunable("local_margin_ms", -50, 50, 10, meaning="safety margin of the device"),
    )

    def __init__(self, scenario: Scenario, parameters: Mapping[str, Any] | None = None) -> None:
        """Set the parameters; each a number, or one for each episode (B,)."""
        values = {t.name: t.default for t in self.TUNABLES} | dict(parameters or {})
        self._p = {name: np.asarray(value, np.float32) for name, value in values.items()}
        self._view = PlacementView(scenario)
        self._slo_ms = scenario.slo.latency_ms
        self._reader = ObservationReader(scenario)
        self._intensity = [
            f"{'device' if p.node == 'local' else p.node}_carbon_g_per_kwh" for p in scenario.placements
        ]

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the cleanest allowed placement that is believed to be in time, else the fastest (B,)."""
        view, p, remote = self._view.of(observation), self._p, self._view.remote
        path_ms = p["margin_ms"] + p["rtt_share"] * view.rtt_ms + p["deviation_share"] * view.rtt_deviation_ms
        margin_ms = np.where(remote, path_ms[self._view.link_of], p["local_margin_ms"])
        expected_ms = view.latency_ms + margin_ms
        in_time = allowed.T & (expected_ms <= self._slo_ms)
        intensity = np.where(in_time, self._reader.values(observation, self._intensity).T, np.inf)
        cleanest = in_time & (intensity <= intensity.min(axis=0))
        by_carbon = np.where(cleanest, view.carbon_mg, np.inf).argmin(axis=0)
        fastest = np.where(allowed.T, expected_ms, np.inf).argmin(axis=0)
        return np.where(in_time.any(axis=0), by_carbon, fastest)
