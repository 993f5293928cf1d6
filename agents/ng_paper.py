"""What Ng et al. print, and the service times inferred from it ("To Offload or Not To Offload").

The paper prints no service time, payload or k. The scenarios ng-network and ng-tenants hold what its case
studies imply; the rest follows here, each number from the sentence beside it, so that the others are predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..envs import queueing as q
from ..envs.scenario import load_scenario
from ..envs.service import mean_ms
from .ng_lemmas import Case

# Printed figures.
MAPE_PCT, WITHIN_5_PCT, WITHIN_10_PCT = 2.2, 91.5, 100.0  # section 4.3
CASE_1_DEVICE_MS, CASE_1_OFFLOAD_MS = 21.0, 45.0  # section 5.2
CASE_1_CHANGES_S, CASE_2_CHANGES_S = (20.0, 40.0, 60.0), (80.0, 160.0)  # when the world changes
TX2_TIP_MBPS, NANO_TIP_MBPS = 5.0, 15.0  # section 4.5, against an RTX 4070
CROSSOVER_PER_S = 60.0  # section 4.7, MobileNetV2 at 20 Mbit/s; none at 10 Mbit/s
CROSSOVER_APPLICATIONS = 18  # section 4.8, InceptionV4
TFLOPS = {"tx2": 1.3, "orin-nano": 2.6, "a2": 4.5, "rtx-4070": 29.1}  # section 4.1
PIXELS = {"mobilenet-v2": 224**2, "inception-v4": 299**2, "yolov8n": 640**2}  # section 4.1
RATE_PER_S, FIG_2_MBPS = 2.0, 5.0  # section 4.3: "2 requests per second (RPS) and a network speed of 5 Mbps"

# Clock levels of the GPUs, MHz (their boards' tables, not in the paper). Service is taken as inverse to the clock.
TX2_MHZ = (
    1300.5,
    1236.75,
    1122.0,
    1032.75,
    930.75,
    854.25,
    726.75,
    624.75,
    522.75,
    420.75,
    318.75,
    216.75,
    114.75,
)
NANO_MHZ = (624.75, 612.0, 510.0, 408.0, 306.0)
TOP_LEVELS = {"mobilenet-v2": 3, "yolov8n": 6}  # section 4.3: levels at which the TX2 wins against the A2

# Chosen with NANO_MOBILENET_MS: "At 10 Mbps, Orin Nano outperforms offloading across all RPS" (section 4.7) holds
# up to 100 a second (assumed to be what Fig. 5b shows) only if neither side is one server alone.
NANO_K, A2_K = 1.85, 6.0
FIG_5B_MOST_PER_S = 100.0
FIG_5C_MBPS = 20.0  # assumed, as case 2; section 4.8 names none


@dataclass(frozen=True)
class Model:
    """A model's payload and its service times by processor, ms."""

    payload_kb: float
    service_ms: dict[str, float]


@lru_cache
def models() -> dict[str, Model]:
    """Every number that the reproduction needs: from the scenarios, or inferred below."""
    mobile, yolo = _shipped("ng-network"), _shipped("ng-tenants")
    kb = mobile.payload_kb
    nano = _nano_mobilenet_ms(kb, mobile.service_ms["a2"])
    rtx = _rtx_mobilenet_ms(kb, nano)
    small = {**mobile.service_ms, "orin-nano": nano, "rtx-4070": rtx}
    # YOLOv8n on the Orin Nano: by TFLOPS from the TX2.
    heavy = {**yolo.service_ms, "orin-nano": yolo.service_ms["tx2"] * TFLOPS["tx2"] / TFLOPS["orin-nano"]}
    return {
        "mobilenet-v2": Model(kb, small),
        "yolov8n": Model(yolo.payload_kb, heavy),
        "inception-v4": _inception(kb, yolo.payload_kb),
    }


def fig_5c(device: str = "tx2", mbps: float = FIG_5C_MBPS) -> Case:
    """Section 4.8 without other tenants."""
    return case("inception-v4", device, "a2", mbps)


def fig_5b(mbps: float, rate_per_s: float = RATE_PER_S) -> Case:
    """Section 4.7: MobileNetV2 on Orin Nano and A2."""
    m = models()["mobilenet-v2"]
    return Case(m.service_ms["orin-nano"], m.service_ms["a2"], m.payload_kb, mbps, rate_per_s,
                device_parallelism=NANO_K, edge_parallelism=A2_K)  # fmt: skip


def case(model: str, device: str, edge: str, mbps: float, clock_share: float = 1.0) -> Case:
    """A setting of section 4 at 2 requests a second, the device's clock at a share of its highest."""
    m = models()[model]
    return Case(m.service_ms[device] / clock_share, m.service_ms[edge], m.payload_kb, mbps, RATE_PER_S)


def _shipped(scenario: str) -> Model:
    """Case study 1's MobileNetV2 or case study 2's YOLOv8n, from the scenario, where the sentences stand."""
    loaded = load_scenario(scenario)
    local, remote = (mean_ms(p.service) for p in loaded.placements[:2])
    return Model(loaded.payload.low_kb, {"tx2": local, "a2": remote})


def _nano_mobilenet_ms(kb: float, a2_ms: float) -> float:
    """Section 4.7: on 20 Mbit/s "on-device processing is faster at low load (RPS <= 60)": equal at 60."""
    upload = q.transmission_ms(kb, 20.0)
    away = q.offload_latency_ms(upload, 0.0, CROSSOVER_PER_S, a2_ms, parallelism=A2_K)
    return _solve(lambda s: float(q.device_latency_ms(s, CROSSOVER_PER_S, 0.0, NANO_K) - away), 1.0, 30.0)


def _rtx_mobilenet_ms(kb: float, nano_ms: float) -> float:
    """Section 4.5: "the faster Orin Nano requires a higher bandwidth (15 Mbps)": equal at 15 Mbit/s."""
    local = q.device_latency_ms(nano_ms, RATE_PER_S, 0.0, NANO_K)
    upload = q.transmission_ms(kb, NANO_TIP_MBPS)
    return _solve(lambda s: float(q.offload_latency_ms(upload, 0.0, RATE_PER_S, s) - local), 0.1, 30.0)


def _inception(mobile_kb: float, yolo_kb: float) -> Model:
    """Section 4.8: "a crossover point at 18 applications, beyond which on-device processing becomes more efficient".

    The payload is interpolated between the other two as a power of the pixels; the devices stand to the A2 as
    their TFLOPS; k = 1. Fig. 5c's device is then the TX2: an Orin Nano would need a service time so short that
    Fig. 2d's "offloading provides lower average latency across all device configurations" fails.
    """
    ratio = {k: np.log(PIXELS[k] / PIXELS["mobilenet-v2"]) for k in PIXELS}
    kb = float(mobile_kb * (yolo_kb / mobile_kb) ** (ratio["inception-v4"] / ratio["yolov8n"]))
    upload = q.transmission_ms(kb, FIG_5C_MBPS)
    requests = (CROSSOVER_APPLICATIONS + 0.5) * RATE_PER_S  # offloading still wins with 18, no more with 19

    def away_minus_local(a2_ms: float) -> float:
        server = q.mixture(np.array([requests]), a2_ms)
        away = q.offload_latency_ms(upload, 0.0, RATE_PER_S, a2_ms, server)
        return float(away - q.device_latency_ms(a2_ms * TFLOPS["a2"] / TFLOPS["tx2"], RATE_PER_S))

    a2 = _solve(away_minus_local, 10.0, 26.5)
    return Model(kb, {name: a2 * TFLOPS["a2"] / TFLOPS[name] for name in ("tx2", "orin-nano", "a2")})


def _solve(difference: Callable[[float], float], low: float, high: float) -> float:
    """Root of a rising function by bisection."""
    if not difference(low) < 0 < difference(high):
        raise ArithmeticError(f"no root between {low} and {high}")
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if difference(middle) < 0 else (low, middle)
    return (low + high) / 2
