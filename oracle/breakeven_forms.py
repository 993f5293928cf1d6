"""Closed forms of the break-even: energy of a placement, and where two of them tip. All broadcast over arrays.

Carbon is linear in the intensity ratio, in 1 / batch, in the payload and in 1 / rate, so every tipping value of
carbon is the root of a straight line (`crossing`). Latency needs the waits of `envs.queueing` turned round.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.queueing import Values
from ..envs.units import BITS_PER_BYTE, MS_PER_S

F64 = npt.NDArray[np.float64]


def server_energy_j(shared_j: Values, own_j: Values, batch: Values) -> F64:
    """Energy of one image in a batch (docs/physics.md): what the batch shares, over its size, plus its own, J."""
    return np.asarray(shared_j / np.asarray(batch) + own_j)


def radio_energy_j(
    sending_ms: Values, awake_ms: Values, transmit_w: Values, tail_w: Values, tail_ms: Values
) -> F64:
    """Radio energy of one offload, J: transmit power while sending, tail power for the awake time that it adds.

    Args:
        sending_ms: time on the air.
        awake_ms: time since the request before ended its sending (steady stream: gap less sending); the tail
            if the radio sleeps by then.
        transmit_w, tail_w, tail_ms: the device's radio.
    """
    added_ms = np.clip(awake_ms, 0.0, tail_ms)  # envs/sending.py: tail less what is left of the one before
    return np.asarray((sending_ms * np.asarray(transmit_w) + added_ms * tail_w) / MS_PER_S)


def server_idle_j(gap_ms: Values, idle_w: Values, background_per_ms: Values) -> F64:
    """Share of a server's idle energy since the last request, J: by number of requests (docs/physics.md)."""
    gap = np.asarray(gap_ms, dtype=np.float64)
    return gap * idle_w / MS_PER_S / (1.0 + gap * background_per_ms)


def intensity_ratio(local_j: Values, sending_j: Values, server_j: Values) -> F64:
    """Ratio intensity(server) / intensity(device) below which offloading is greener.

    E_local I_device = E_sending I_device + E_server I_server, solved for the ratio. With Khan et al.'s Table 2 and
    nothing for the network: 5.1 / 29.8 = 0.171. Negative: sending alone costs more than computing.

    Args:
        local_j: energy of the local inference (and of what else only it causes).
        sending_j: radio and network energy drawn from the device's grid.
        server_j: energy at the server, PUE included; > 0.
    """
    return np.asarray((np.asarray(local_j) - sending_j) / server_j, dtype=np.float64)


def tipping_batch(local_j: Values, sending_j: Values, shared_j: Values, own_j: Values, ratio: Values) -> F64:
    """Batch from which offloading is greener at an intensity ratio; infinite where no batch is large enough.

    The remote energy may be (E_local - E_sending) / ratio = shared / b + own. A result up to 1 means: always.
    """
    left = np.asarray((np.asarray(local_j) - sending_j) / ratio - own_j)
    with np.errstate(divide="ignore"):
        return np.where(left > 0, np.asarray(shared_j) / np.where(left > 0, left, 1.0), np.inf)


def tipping_payload_kb(
    local_j: Values, server_j: Values, ratio: Values, network_j_per_kb: Values, transmit_w: Values, rate_mbps: Values
) -> F64:  # fmt: skip
    """Payload up to which offloading is greener, kB; negative: not even an empty one, infinite: bytes cost nothing.

    A kB costs the network's energy and 8 / rate ms of transmit power (device's grid both).
    """
    per_kb = network_j_per_kb + np.asarray(transmit_w) * BITS_PER_BYTE / rate_mbps / MS_PER_S
    spare = np.asarray(local_j) - np.asarray(server_j) * ratio
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(per_kb > 0, spare / per_kb, np.where(spare > 0, np.inf, -np.inf))


def tipping_rate_mbps(
    local_j: Values, server_j: Values, ratio: Values, fixed_j: Values, payload_kb: Values, transmit_w: Values
) -> F64:  # fmt: skip
    """Link rate above which offloading is greener, Mbit/s: infinite where no rate helps.

    Args:
        local_j, server_j, ratio: as above.
        fixed_j: what sending costs at any rate (network, tail), device's grid.
        payload_kb, transmit_w: bytes on the air and the power they are sent with.
    """
    spare = np.asarray(local_j) - np.asarray(server_j) * ratio - fixed_j
    airtime_mbps = (
        np.asarray(payload_kb) * BITS_PER_BYTE * transmit_w / MS_PER_S
    )  # W x kbit / 1000 = J x Mbit/s
    return np.where(spare > 0, airtime_mbps / np.where(spare > 0, spare, 1.0), np.inf)


def crossing(at_zero: Values, at_one: Values) -> F64:
    """Where a straight line through its values at 0 and 1 is zero; NaN where that is not above 0."""
    zero = np.asarray(at_zero, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = zero / (zero - at_one)
        return np.where(np.isfinite(root) & (root > 0), root, np.nan)


def sending_for_sojourn_ms(sojourn_ms: Values, rate_per_s: Values, variability: Values) -> F64:
    """Transmission time u that a link may take so that u plus the wait for the link is ``sojourn_ms``.

    Solves T = u + c lambda u^2 / (1 - lambda u) with c = (c_a^2 + c_s^2) / 2, the wait of `queueing.gg1_wait_ms`:
    (c - 1) lambda u^2 + (1 + lambda T) u - T = 0. For c = 1 (M/M/1, Ng et al. eq (7)) u = T / (1 + lambda T).
    NaN where T is negative.
    """
    time, rate = np.asarray(sojourn_ms, dtype=np.float64), np.asarray(rate_per_s) / MS_PER_S
    busy = 1.0 + rate * time
    with np.errstate(invalid="ignore"):
        root = np.sqrt(np.maximum(busy**2 + 4.0 * (np.asarray(variability) - 1.0) * rate * time, 0.0))
        return np.where(time >= 0, 2.0 * time / (busy + root), np.nan)


def load_for_wait(
    wait_ms: Values, service_ms: Values, service_scv: Values, own_load: Values = 0.0, own_ms: Values = 0.0,
    own_scv: Values = 0.0,
) -> F64:  # fmt: skip
    """Load by other tenants at which the mean wait of M/G/1 is ``wait_ms``; negative: our own requests exceed it.

    Ng et al. eq (11) for two streams, 2 W (1 - r - r_own) = r s (1 + c_s^2) + r_own s_own (1 + c_own^2), solved for r.

    Args:
        wait_ms: mean wait, >= 0.
        service_ms, service_scv: the tenants' service time, > 0.
        own_load, own_ms, own_scv: utilisation and service time of our own requests on this node.
    """
    wait = np.asarray(wait_ms, dtype=np.float64)
    own = np.asarray(own_load) * own_ms * (1.0 + np.asarray(own_scv))
    return (2.0 * wait * (1.0 - np.asarray(own_load)) - own) / (
        2.0 * wait + np.asarray(service_ms) * (1.0 + np.asarray(service_scv))
    )
