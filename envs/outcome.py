"""What a batch of placements cost: latency, energy and carbon with their terms kept apart."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import OUTCOME

LATENCY_TERMS = (
    "device_wait_ms", "head_ms", "link_wait_ms", "upload_ms", "rtt_ms", "recovery_ms", "node_wait_ms", "service_ms",
)  # fmt: skip
MARGINAL_ENERGY_TERMS = ("compute_energy_j", "radio_energy_j", "network_energy_j", "server_energy_j")
IDLE_ENERGY_TERMS = ("device_idle_energy_j", "server_idle_energy_j")
REWARD_TERMS = ("carbon", "slo_miss", "latency_excess", "accuracy")

# The byte of the integer that is 0 or 1.
_MISSED = OUTCOME.fields["missed"][1] + (0 if sys.byteorder == "little" else 7) if OUTCOME.fields else 0


class Outcome:
    """The outcome of one request per episode; every field is an array (B,).

    Latency terms (ms) add up to ``latency_ms``:
        device_wait_ms: of a split request, waiting for the device; 0 of others (a local one's is node_wait_ms).
        head_ms: of a split request, its part on the device, throttling included; 0 of others.
        link_wait_ms: waiting for the link: own earlier bytes, stalls, outages.
        upload_ms: payload, or what crosses the cut, over the link's rate.
        rtt_ms: one round trip, jitter and the node's extra distance included.
        recovery_ms: further round trips for window growth and loss recovery.
        node_wait_ms: waiting for the node: own and other tenants' work, batch formation.
        service_ms: inference, throttling and sharing a batch included.
    Energy terms (J), PUE included at servers:
        marginal account: compute_energy_j + radio_energy_j + network_energy_j + server_energy_j
        attributional account: the same + device_idle_energy_j + server_idle_energy_j
    ``energy_j``, ``carbon_mg``: of the scenario's account; ``*_marginal``, ``*_attributional``: of both.
    ``placement``, ``issued_ms``, ``accuracy_miou``, ``missed`` (latency above the SLO), ``reward``.
    """

    __slots__ = ("records",)

    def __init__(self, records: np.ndarray) -> None:
        """Wrap the records (B,) that the physics filled."""
        self.records = records

    def __getattr__(self, name: str) -> npt.NDArray[Any]:
        try:
            return self.records[name]
        except ValueError:
            raise AttributeError(f"an outcome has no field '{name}'") from None

    def columns(self) -> npt.NDArray[np.float64]:
        """The fields of real numbers, a row each (fields, B); faster to index than the records by name."""
        return self.records.view(np.float64).reshape(self.records.size, -1).T  # every field has eight bytes

    @property
    def missed(self) -> npt.NDArray[np.bool_]:
        """Whether the latency exceeded the SLO (B,); the records' own memory, like the other fields."""
        return np.ndarray((self.records.size,), np.bool_, self.records, _MISSED, (OUTCOME.itemsize,))

    @property
    def reward_terms(self) -> dict[str, npt.NDArray[np.float64]]:
        """The weighted reward terms by name, at most zero; their sum is the reward."""
        return {name: self.records[f"reward_{name}"] for name in REWARD_TERMS}
