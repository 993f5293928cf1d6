"""What the CarbonEdge paper prints, number by number, so that nothing below types a figure twice.

Source: "CarbonEdge: Carbon-Aware Deep Learning Inference Framework for Sustainable Edge Computing".
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A row of Table II; Table IV has the same without throughput."""

    latency_ms: float
    carbon_g: float
    reduction_pct: float | None = None
    per_s: float | None = None


class Node(NamedTuple):
    """One of the three simulated nodes (section IV-A1)."""

    cpus: float
    carbon_g_per_kwh: float


NODES = {"high": Node(1.0, 620.0), "medium": Node(0.6, 530.0), "green": Node(0.4, 380.0)}

MONOLITHIC, AMP4EC = "Monolithic", "AMP4EC"
PERFORMANCE, BALANCED, GREEN = "CE-Performance", "CE-Balanced", "CE-Green"
TABLE_II = {
    MONOLITHIC: Row(254.85, 0.0053, None, 3.93),
    AMP4EC: Row(277.22, 0.0056, -6.7, 3.62),
    PERFORMANCE: Row(271.38, 0.0067, -26.7, 3.69),
    BALANCED: Row(271.11, 0.0066, -24.7, 3.70),
    GREEN: Row(272.02, 0.0041, 22.9, 3.68),
}

# Table IV: model -> (monolithic, Green).
MOBILENET_V2, MOBILENET_V4, EFFICIENTNET = "MobileNetV2", "MobileNetV4", "EfficientNet-B0"
TABLE_IV = {
    MOBILENET_V2: (Row(254.85, 0.0053), Row(272.02, 0.0041, 22.9)),
    MOBILENET_V4: (Row(82.96, 0.00123), Row(84.28, 0.00105, 14.8)),
    EFFICIENTNET: (Row(116.29, 0.00198), Row(119.23, 0.00134, 32.2)),
}

# Table V: mode -> share of the tasks on each node, %.
TABLE_V = {
    PERFORMANCE: {"high": 100.0, "medium": 0.0, "green": 0.0},
    BALANCED: {"high": 100.0, "medium": 0.0, "green": 0.0},
    GREEN: {"high": 0.0, "medium": 0.0, "green": 100.0},
}

# Section IV-C.
INFERENCES_PER_G = {GREEN: 245.8, MONOLITHIC: 189.5, PERFORMANCE: 149.6}
EFFICIENCY_GAIN = 1.30
LATENCY_OVERHEAD_PCT = 7.0  # "less than 7% overhead compared to monolithic execution"

# Section IV-F and Fig. 3.
CARBON_SCORE_RANGE = 0.054  # "S_C has limited differentiation (range 0.054)"
PERFORMANCE_SCORE_RANGE = 0.166  # "compared to S_P (range 0.166)"
SWITCH_WEIGHT = 0.50  # "transition threshold at w_C >= 0.50"
SCHEDULING_MS = 0.03  # "0.03 ms per task"
REPETITIONS = 3  # section IV-A4: "Each experiment was repeated three times"
SMALL_EMISSIONS_G = 0.001  # section V-A: "when per-inference emissions are small (~0.001 gCO2)"
