"""What a request's placement cost: latency, energy and carbon with their terms kept apart."""

from __future__ import annotations

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
    """

    placement: Number
    issued_ms: Number
    compute_energy_j: Number
    radio_energy_j: Number
    network_energy_j: Number
    server_energy_j: Number
    device_idle_energy_j: Number
    server_idle_energy_j: Number
    energy_j_marginal: Number
    energy_j_attributional: Number
    carbon_mg_marginal: Number
    carbon_mg_attributional: Number
    accuracy_miou: Number
    link_wait_ms: Number = None
    upload_ms: Number = None
    rtt_ms: Number = None
    recovery_ms: Number = None
    node_wait_ms: Number = None
    service_ms: Number = None
    latency_ms: Number = None
    missed: Number = None
    energy_j: Number = None  # of the scenario's account
    carbon_mg: Number = None  # of the scenario's account
    reward_terms: dict[str, Number] = field(default_factory=dict)
    reward: Number = None


LATENCY_TERMS = ("link_wait_ms", "upload_ms", "rtt_ms", "recovery_ms", "node_wait_ms", "service_ms")
MARGINAL_ENERGY_TERMS = ("compute_energy_j", "radio_energy_j", "network_energy_j", "server_energy_j")
IDLE_ENERGY_TERMS = ("device_idle_energy_j", "server_idle_energy_j")
REWARD_TERMS = ("carbon", "slo_miss", "latency_excess", "accuracy")
