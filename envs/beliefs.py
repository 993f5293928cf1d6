"""What a device believes of latency, carbon and its own queues, from telemetry and the scenario's numbers.

Plain Python on purpose: the simulator compiles it, the device's observer calls it as it is, without loading numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .records import COMPUTING_SLOTS
from .schema import LOCAL, Placement, Scenario
from .service import batch_energy_j, mean_ms
from .units import MG_PER_J_PER_G_PER_KWH, network_energy_j

F32 = npt.NDArray[np.float32]

SAMPLED_LEVELS = tuple(round(0.04 * i, 2) for i in range(25))  # 0 to 0.96, for loads that wander
NOT_YET_MS = 1e18
MBPS_PER_KB_PER_MS = 8.0
LEAST_SENDING_MS = 0.01  # what takes less has no rate worth telling
BELIEVED_TOP_LOAD = np.float32(0.95)  # beyond it a textbook wait explodes


def nearest_level(levels: npt.NDArray[np.float64], load: Any) -> npt.NDArray[np.int64]:
    """Number of the level nearest to each load, of a node's ``levels`` (L,)."""
    if len(levels) == len(SAMPLED_LEVELS):  # evenly spaced from zero
        nearest = (np.asarray(load) * np.float32(1 / levels[1]) + np.float32(0.5)).astype(np.int64)
        return np.minimum(nearest, len(levels) - 1)
    edges = (levels[1:] + levels[:-1]) / 2
    return np.searchsorted(edges, load)


def local_numbers(p: Placement) -> tuple[float, np.float32]:
    """Of a placement on the device: believed service time (ms), and carbon (mg) at 1 g/kWh."""
    return mean_ms(p.service), np.float32(p.active_energy_j * MG_PER_J_PER_G_PER_KWH)


def device_shares(scenario: Scenario) -> npt.NDArray[np.float64]:
    """What each placement keeps the device busy for, as a share of a whole frame there (P,)."""
    whole_ms = mean_ms(scenario.placements[0].service)
    on_device = [
        p.service if p.node == LOCAL else None if p.split is None else p.split.service
        for p in scenario.placements
    ]
    return np.array([0.0 if service is None else mean_ms(service) / whole_ms for service in on_device])


def remote_numbers(scenario: Scenario, p: Placement) -> F32:
    """What `predict` needs to know of a remote placement (9,)."""
    assert p.node != LOCAL
    node, radio = scenario.nodes[p.node], scenario.device.radio
    share = 0.0 if node.batching is None else node.batching.marginal_service_share
    shared_j, own_j = batch_energy_j(p, node.pue)
    kb = (
        (scenario.payload.low_kb + scenario.payload.high_kb) / 2 if p.split is None else p.split.activation_kb
    )
    moved_j = network_energy_j(kb, scenario.links[node.link].network_energy_nj_per_bit)
    if (
        p.split is not None
    ):  # the device's part is drawn from the device's grid, as the bytes' energy is believed to be
        moved_j += p.split.active_energy_j
    transmit_w = 0.0 if radio is None else radio.transmit_power_w
    scalars = (
        node.extra_rtt_ms, mean_ms(p.service), share, shared_j, own_j, kb * 8e-3, transmit_w, moved_j,
        MG_PER_J_PER_G_PER_KWH,
    )  # fmt: skip
    return np.array(scalars, dtype=np.float32)


def predict(
    rtt: Any, uplink: Any, grid: Any, device_grid: Any, level: Any, waits: F32, batches: F32, numbers: F32
) -> tuple[Any, Any]:
    """Latency (ms, without payload and own backlog) and carbon (mg) of a remote placement.

    Of one moment or of arrays of them, in single precision.

    Args:
        rtt: smoothed round-trip time, ms.
        uplink: estimated rate, Mbit/s.
        grid, device_grid: intensity shown for the node's and the device's zone, g/kWh.
        level: number of the load's level.
        waits, batches: mean wait (ms) and batch of each level (L,).
        numbers: of `remote_numbers`.
    """
    extra_rtt, service, share, shared_j, own_j = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    kb_ms, transmit_w, moved_j, mg = numbers[5], numbers[6], numbers[7], numbers[8]
    one, batch = np.float32(1.0), batches[level]
    latency = rtt + extra_rtt + waits[level] + service * (one + share * (batch - one))
    joules = shared_j / batch + own_j
    radio_j = transmit_w * (kb_ms / uplink)
    return latency, (grid * joules + device_grid * (moved_j + radio_j)) * mg


def sent_mbps(payload_kb: float, sending_ms: float | None) -> float:
    """Rate at which a request's bytes left, Mbit/s; 0 if that is not known."""
    if sending_ms is None:
        return 0.0
    return payload_kb * MBPS_PER_KB_PER_MS / max(sending_ms, LEAST_SENDING_MS)


def believe_sending(link: Any, now_ms: float, payload_kb: float, ms_per_kb: float) -> None:
    """Bytes were given to a link (`LINK`): it knows no true rate."""
    link.believed_ms = max(link.believed_ms, now_ms) + payload_kb * ms_per_kb


def believe_computing(site: Any, e: Any, device: Any, now_ms: float, service_ms: float) -> Any:
    """A request was given to the device (`SITE`, `EPISODE`): it knows no true service time before it is done.

    Returns:
        The request's `COMPUTING`, for its end.
    """
    calibrated_ms = service_ms * (site.slowdown if e.throttled > 0.0 else 1.0)
    e.believed_device_ms = max(e.believed_device_ms, now_ms) + calibrated_ms * e.service_ratio
    if e.begun - e.ended == COMPUTING_SLOTS:
        e.ended += 1  # the ring is full: of the oldest nothing will be learnt
    slot = device[e.begun & (COMPUTING_SLOTS - 1)]
    slot.done_ms, slot.service_ms = NOT_YET_MS, 0.0
    slot.believed_ms, slot.calibrated_ms = e.believed_device_ms, calibrated_ms
    e.begun += 1
    return slot
