"""The one place for conversions; all exact."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", float, npt.NDArray[np.float32], npt.NDArray[np.float64])

J_PER_KWH = 3_600_000.0
MG_PER_G = 1000.0
MS_PER_S = 1000.0
S_PER_MS = 1.0 / 1000.0
BITS_PER_BYTE = 8.0
BYTES_PER_KB = 1000.0
HOURS_PER_YEAR = 8760
SECONDS_PER_HOUR = 3600.0

# CO2 in mg of one joule at one g/kWh: E [J] / 3.6e6 [J/kWh] x I [g/kWh] x 1000 [mg/g]
MG_PER_J_PER_G_PER_KWH = MG_PER_G / J_PER_KWH


def carbon_mg(energy_j: float, carbon_g_per_kwh: float) -> float:
    """CO2 of an energy at an intensity, mg (CarbonEdge eq (2); PUE is part of the energy here)."""
    return energy_j * carbon_g_per_kwh * MG_PER_J_PER_G_PER_KWH


def ms_per_kb(rate_mbps: Number) -> Number:
    """Milliseconds that 1 kB takes at a rate: 8000 bits over rate x 1000 bits a millisecond."""
    return BITS_PER_BYTE / rate_mbps


def network_energy_j(payload_kb: float, nj_per_bit: float) -> float:
    """Energy of moving a payload, J."""
    return payload_kb * BYTES_PER_KB * BITS_PER_BYTE * nj_per_bit * 1e-9


def full_batch_rate(
    service_ms: float, parallelism: int, max_batch: int, marginal_service_share: float
) -> float:
    """Images a millisecond that a node serves in full batches; a batch of b takes service_ms (1 + share (b - 1))."""
    return parallelism * max_batch / (service_ms * (1 + marginal_service_share * (max_batch - 1)))
