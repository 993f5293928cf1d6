"""What Khan et al. print, number by number, so that nothing below types a figure twice.

Source: "Latency-Sustainability Trade-offs in On-Device vs. Near-Edge Offloaded Semantic Segmentation".
"""

from __future__ import annotations

from typing import NamedTuple

from .paper_cells import Range

SLO_MS = 150.0  # "service-level objective (SLO) of 150 ms for the 95th-percentile latency"
CARBON_G_PER_KWH = 400.0  # Table 2: "assuming 0.4 kg CO2/kWh"


class Latency(NamedTuple):
    """One row of Table 1 for one mode."""

    p50_ms: float
    p95_ms: float
    images_per_s: float


class Profile(NamedTuple):
    """A network profile (section 3.1) and its two halves of Table 1."""

    shortest_rtt_ms: float  # "1-5 ms", "30 +- 10", "60 +- 20"
    local: Latency
    offload: Latency


class Efficiency(NamedTuple):
    """One row of Table 2."""

    miou_pct: float
    pixel_accuracy_pct: float
    energy_j: float
    carbon_mg: float


TABLE_1 = {
    "khan-lan": Profile(1.0, Latency(79, 94, 12.4), Latency(60, 70, 16.0)),
    "khan-emu-a": Profile(20.0, Latency(80, 95, 12.3), Latency(85, 120, 11.1)),
    "khan-emu-b": Profile(40.0, Latency(82, 96, 12.1), Latency(119, 183, 8.3)),
}
TABLE_2 = {
    "local-b0": Efficiency(74.6, 95.2, 5.1, 0.6),
    "edge-b4": Efficiency(80.5, 97.1, 29.8, 3.3),
}
EMU_B_MISSES_PCT = Range(15.0, 17.0)  # section 4.1: "15-17% or more of the images"
EMU_B_OFFLOAD_J = 30.0  # section 4.1: "about 30 J per offloaded inference"

# Section 4.2: "sending 8 concurrent image requests resulted in Triton forming full batches of 8".
BATCH = 8
BATCH_P95_MS = 120.0  # "rose to ~120 ms"
BATCH_IMAGES_PER_S = 65.0
BATCH_ENERGY_J = Range(5.0, 10.0)  # "on the order of 5-10J"

# Fig. 3 in the words of section 4.2: images a second (low, high) -> mg an image (offload, local).
FIG_3 = {Range(1, 1): (10.0, 4.0), Range(8, 12): (5.0, 3.0), Range(16, 16): (3.5, 3.0)}
# Fig. 4: grams for 500 images on the LAN and 500 on Emu-B.
FIG_4_G = {"always-local": 3.1, "always-offload": 5.0, "adaptive": 3.0}
FIG_4_SAVED_PCT = {"always-local": 3.2, "always-offload": 40.0}  # the adaptive policy against each
