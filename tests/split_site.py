"""A site with one split placement whose latencies and energies can be summed up by hand."""

from __future__ import annotations

from typing import Any

from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.envs.schema import Scenario

LOCAL, EDGE, SPLIT = 0, 1, 2
HEAD_MS, TAIL_MS, WHOLE_MS, LOCAL_MS = 40.0, 10.0, 16.0, 100.0
KB, ACTIVATION_KB, MBPS, RTT_MS = 150.0, 25.0, 20.0, 8.0
SEND_MS, SEND_CUT_MS = KB * 8 / MBPS, ACTIVATION_KB * 8 / MBPS

# A split placement beside those of the tests' tiny site.
SPLIT_PLACE: dict[str, Any] = {
    "name": "edge-cut",
    "node": "edge",
    "model": "segformer-b0",
    "service": {"distribution": "deterministic", "mean_ms": 9},
    "active_energy_j": 1.0,
    "batched_energy_j": 0.25,
    "accuracy_miou": 37.4,
    "split": {
        "cut": "cut-004",
        "service": {"distribution": "deterministic", "mean_ms": 25},
        "active_energy_j": 0.4,
        "activation_kb": 12.5,
    },
}


def deterministic(ms: float) -> dict[str, Any]:
    """A service time without chance."""
    return {"distribution": "deterministic", "mean_ms": ms}


def tandem_site(
    arrivals: dict[str, Any],
    requests: int = 400,
    head: float = HEAD_MS,
    tail: float = TAIL_MS,
    **changes: Any,
) -> Scenario:
    """A device, a link of one rate without loss, a server without tenants: everything can be summed up by hand."""
    node = {"link": "air", "extra_rtt_ms": 0, "zone": "z", "pue": 1.0, "parallelism": 1, "idle_power_w": 0}
    link = {
        "source": {
            "kind": "phases",
            "phases": [{"rtt_ms": RTT_MS, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": MBPS}],
        },
        "transfer": {"model": "empirical", "jitter": "normal"},
        "network_energy_nj_per_bit": 100,
        "network_zone": "z",
    }
    split = {
        "cut": "c",
        "service": deterministic(head),
        "active_energy_j": 2.0,
        "activation_kb": ACTIVATION_KB,
    }
    whole = {"model": "m", "accuracy_miou": 70}
    places = [
        {"name": "local", "node": "local", "service": deterministic(LOCAL_MS), "active_energy_j": 5.0},
        {"name": "edge", "node": "edge", "service": deterministic(WHOLE_MS), "active_energy_j": 1.0},
        {
            "name": "edge-c",
            "node": "edge",
            "service": deterministic(tail),
            "active_energy_j": 0.6,
            "split": split,
        },
    ]
    data = scenario_dict(load_scenario("ng-network")) | {
        "name": "tandem",
        "arrivals": arrivals,
        "episode": {"requests": requests},
        "payload": {"low_kb": KB, "high_kb": KB},
        "device": {"zone": "z", "idle_power_w": 0},
        "links": {"air": link},
        "nodes": {"edge": node},
        "zones": {"z": {"kind": "constant", "carbon_g_per_kwh": 360}},
        "placements": [whole | p for p in places],
        "slo": {"latency_ms": 150, "quantile": 0.95},
    }
    return Scenario.model_validate(data | changes)


def even(per_s: float) -> dict[str, Any]:
    """Camera frames without jitter."""
    return {"kind": "periodic", "low_per_s": per_s, "high_per_s": per_s, "jitter_fraction": 0.0}


def poisson(per_s: float) -> dict[str, Any]:
    """Poisson arrivals."""
    return {"kind": "poisson", "low_per_s": per_s, "high_per_s": per_s}
