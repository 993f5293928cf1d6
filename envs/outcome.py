"""What a request's placement cost: latency, energy and carbon with their terms kept apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Number = Any  # float64 array (B,), or float with a batch of one


@dataclass(slots=True)
class Outcome:
    """The outcome of one request per episode. Arrays are (B,), plain floats with a batch of one.

    Latency terms (ms) add up to ``latency_ms``:
        link_wait_ms: waiting for the link: own earlier bytes, stalls, outages.
        upload_ms: payload over the link's rate.
        rtt_ms: one round trip, jitter and the node's extra distance included.
        recovery_ms: further round trips for window growth and loss recovery.
        node_wait_ms: waiting for the node: own and other tenants' work, batch formation.
        service_ms: inference, throttling and sharing a batch included.
    Energy terms (J), PUE included at servers:
        marginal account: compute_energy_j + radio_energy_j + network_energy_j + server_energy_j
        attributional account: the same + device_idle_energy_j + server_idle_energy_j
    The attributional account is worked out when it is asked for.
    """

    placement: Number
    issued_ms: Number
    compute_energy_j: Number
    radio_energy_j: Number
    network_energy_j: Number
    server_energy_j: Number
    carbon_mg_marginal: Number
    accuracy_miou: Number
    idle_share: Callable[[], tuple[Number, Number]]
    device_grid: Number  # mg/J
    node_grid: Number  # mg/J
    link_wait_ms: Number = None
    upload_ms: Number = None
    rtt_ms: Number = None
    recovery_ms: Number = None
    node_wait_ms: Number = None
    service_ms: Number = None
    latency_ms: Number = None
    missed: Number = None
    carbon_mg: Number = None  # of the scenario's account
    marginal: bool = True  # the scenario's account
    reward_terms: dict[str, Number] = field(default_factory=dict)
    reward: Number = None

    @property
    def device_idle_energy_j(self) -> Number:
        """The device's idle energy since the last request, J."""
        return self.idle_share()[0]

    @property
    def server_idle_energy_j(self) -> Number:
        """This request's share of the server's idle energy since the last request, PUE included, J."""
        return self.idle_share()[1]

    @property
    def energy_j_marginal(self) -> Number:
        """Energy this request added, J."""
        return self.compute_energy_j + self.radio_energy_j + self.network_energy_j + self.server_energy_j

    @property
    def energy_j_attributional(self) -> Number:
        """Energy of this request and its share of everything that stood ready, J."""
        device, server = self.idle_share()
        return self.energy_j_marginal + device + server

    @property
    def energy_j(self) -> Number:
        """Energy of the scenario's account, J."""
        return self.energy_j_marginal if self.marginal else self.energy_j_attributional

    @property
    def carbon_mg_attributional(self) -> Number:
        """CO2 of the attributional account, mg."""
        device, server = self.idle_share()
        return self.carbon_mg_marginal + device * self.device_grid + server * self.node_grid


LATENCY_TERMS = ("link_wait_ms", "upload_ms", "rtt_ms", "recovery_ms", "node_wait_ms", "service_ms")
MARGINAL_ENERGY_TERMS = ("compute_energy_j", "radio_energy_j", "network_energy_j", "server_energy_j")
IDLE_ENERGY_TERMS = ("device_idle_energy_j", "server_idle_energy_j")
REWARD_TERMS = ("carbon", "slo_miss", "latency_excess", "accuracy")
