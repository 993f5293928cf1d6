"""The observation table: one row per feature, from which the Box, the encoder and the docs are made.

It holds only what a device can know: probed, delayed and noisy values with their age, its own backlog and
heat, predictions from believed parameters, the share of the SLO budget spent and the wishes on the dial.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from .schema import LOCAL, Scenario

TABLE_VERSION = 1


@dataclass(frozen=True)
class Feature:
    """One number of the observation vector: ``clip(value, low, high) / scale``.

    Attributes:
        name: unique name with its unit, e.g. ``rtt_ms``.
        unit: unit of the raw value.
        low, high: range of the raw value; values outside are clipped.
        scale: divisor that brings the value near one.
        meaning: one line for the documentation.
        clock: "second" if it changes only with the telemetry, "request" if with every request.
    """

    name: str
    unit: str
    low: float
    high: float
    scale: float
    meaning: str
    clock: str


class ObservationTable:
    """The features of one scenario, in the order of the observation vector."""

    def __init__(self, features: list[Feature]) -> None:
        """Keep the features and their positions."""
        self.features = tuple(features)
        self.index = {f.name: i for i, f in enumerate(features)}
        if len(self.index) != len(features):
            raise ValueError("feature names must differ")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [f.name for f in self.features]

    @property
    def low(self) -> npt.NDArray[np.float32]:
        """Lower bounds of the encoded vector (F,)."""
        return np.array([f.low / f.scale for f in self.features], dtype=np.float32)

    @property
    def high(self) -> npt.NDArray[np.float32]:
        """Upper bounds of the encoded vector (F,)."""
        return np.array([f.high / f.scale for f in self.features], dtype=np.float32)

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """Divisors (F,)."""
        return np.array([f.scale for f in self.features], dtype=np.float32)

    def encode(self, raw: dict[str, float]) -> npt.NDArray[np.float32]:
        """Encode one telemetry record (name -> raw value in the feature's unit) as a vector (F,)."""
        values = np.array([raw[f.name] for f in self.features], dtype=np.float64)
        return np.clip((values / self.scale).astype(np.float32), self.low, self.high)

    def records(self) -> list[dict]:
        """The table as plain records, for the card of a bundle and the docs."""
        return [asdict(f) for f in self.features]

    @property
    def sha256(self) -> str:
        """Hash of the table; a policy trained on another table is refused."""
        text = json.dumps([TABLE_VERSION, self.records()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def build_table(scenario: Scenario) -> ObservationTable:
    """Build the observation table of a scenario: telemetry rows first, then what changes per request."""
    slo, second, request = scenario.slo.latency_ms, "second", "request"
    rows: list[Feature] = []

    def add(name: str, unit: str, low: float, high: float, scale: float, meaning: str, clock: str) -> None:
        rows.append(Feature(name, unit, low, high, scale, meaning, clock))

    for link in scenario.links:
        add(f"{link}_rtt_ms", "ms", 0, 2000, 100, f"smoothed round-trip time probed on {link}", second)
        add(f"{link}_rtt_last_ms", "ms", 0, 2000, 100, f"last probed round-trip time on {link}", second)
        add(f"{link}_rtt_deviation_ms", "ms", 0, 1000, 50, "smoothed absolute deviation of probes", second)
        add(f"{link}_loss_pct", "%", 0, 100, 10, f"smoothed share of lost probes on {link}", second)
        add(f"{link}_uplink_mbps", "Mbit/s", 0, 1000, 50, f"estimated uplink rate of {link}", second)
        add(f"{link}_probe_age_s", "s", 0, 30, 5, "age of the last answered probe", second)
    add("device_carbon_g_per_kwh", "g/kWh", 0, 1500, 500, "grid feed for the device's zone", second)
    for node in scenario.nodes:
        add(f"{node}_carbon_g_per_kwh", "g/kWh", 0, 1500, 500, f"grid feed for the zone of {node}", second)
    add("feed_age_h", "h", 0, 48, 2, "age of the grid feed's values", second)
    for node, spec in scenario.nodes.items():
        if spec.background is not None:
            add(f"{node}_load", "1", 0, 2, 1, f"reported share of {node}'s capacity in use", second)
            add(f"{node}_load_age_s", "s", 0, 30, 5, f"age of {node}'s report", second)
    for p in scenario.placements:
        add(f"{p.name}_carbon_mg", "mg", 0, 100, 0.5, f"believed carbon of {p.name}", second)
    add("wish_carbon", "1", 0, 1, 1, "the operator's wish for low carbon", second)
    add("wish_latency", "1", 0, 1, 1, "the operator's wish for low latency", second)
    add("wish_accuracy", "1", 0, 1, 1, "the operator's wish for accuracy", second)
    for p in scenario.placements:
        add(f"{p.name}_latency_ms", "ms", 0, 4 * slo, slo, f"believed latency of {p.name}", request)
    add("payload_kb", "kB", 0, 10_000, 100, "size of the waiting request", request)
    add("gap_ms", "ms", 0, 10_000, 100, "time since the last request was issued", request)
    for link in scenario.links:
        meaning = f"believed time until {link} has sent our bytes"
        add(f"{link}_backlog_ms", "ms", 0, 4 * slo, slo, meaning, request)
    add("device_backlog_ms", "ms", 0, 4 * slo, slo, "believed time until the device is done", request)
    for node in scenario.nodes:
        meaning = f"age of the oldest unanswered request at {node}"
        add(f"{node}_outstanding_ms", "ms", 0, 4 * slo, slo, meaning, request)
    for node in scenario.nodes:
        add(f"{node}_last_latency_ms", "ms", 0, 4 * slo, slo, f"latency of {node}'s last answer", request)
    for node in scenario.nodes:
        add(f"{node}_last_answer_age_s", "s", 0, 60, 10, f"time since {node}'s last answer", request)
    third = slo / 3
    for node in scenario.nodes:
        meaning = f"answered minus believed latency, {node}'s last answer"
        add(f"{node}_residual_ms", "ms", -third, slo, third, meaning, request)
    for link in scenario.links:
        meaning = f"smoothed residual of answers over {link}"
        add(f"{link}_residual_ms", "ms", -third, slo, third, meaning, request)
        meaning = "smoothed absolute deviation of residuals"
        add(f"{link}_residual_deviation_ms", "ms", 0, slo, third, meaning, request)
        meaning = "rate at which the newest answered request was sent"
        add(f"{link}_sent_mbps", "Mbit/s", 0, 1000, 50, meaning, request)
        add(f"{link}_sent_age_s", "s", 0, 30, 5, "time since that request was placed", request)
    add("device_heat", "1", 0, 2, 1, "low-pass of the device's utilisation", request)
    add("device_throttled", "1", 0, 1, 1, "1 while the device runs slowed down", request)
    add("radio_tail_s", "s", 0, 60, 5, "time the radio still stays awake", request)
    add("slo_budget_spent", "1", 0, 4, 1, "misses so far over the misses an episode may have", request)
    add("recent_miss_rate", "1", 0, 1, 0.2, "smoothed share of misses among answered requests", request)
    add("progress", "1", 0, 1, 1, "share of the episode that is over", request)
    return ObservationTable(rows)


def remote_placements(scenario: Scenario) -> list[int]:
    """Indices of the placements that are not on the device."""
    return [i for i, p in enumerate(scenario.placements) if p.node != LOCAL]
