"""A site file for tests that need no server and no model: a scenario with a deployment that names nothing real."""

from __future__ import annotations

from typing import Any

from carbonpilot.envs.scenario import scenario_dict
from carbonpilot.envs.schema import LOCAL, Scenario
from carbonpilot.envs.validation import validated
from carbonpilot.real.calibrate.machine import this_machine
from carbonpilot.real.site_file import SiteFile


def site_content(scenario: Scenario, **deployment: Any) -> dict[str, Any]:
    """A site file as plain data; ``deployment`` replaces parts of it."""
    remote = [p for p in scenario.placements if p.node != LOCAL]
    zones = {
        scenario.device.zone,
        *(n.zone for n in scenario.nodes.values()),
        *(k.network_zone for k in scenario.links.values()),
    }
    parts: dict[str, Any] = {
        "machine": this_machine().model_dump(),
        "frame": {"height": 64, "width": 128},
        "local": {"file": "model.onnx", "sha256": "0" * 64, "providers": ["cpu"], "intra_op_threads": 1},
        "remote": {p.name: {"model": p.model, "encoding": "uint8"} for p in remote},
        "servers": {name: {"grpc": "127.0.0.1:1"} for name in scenario.nodes},
        "probes": {name: {"host": "127.0.0.1", "port": 1, "method": "echo"} for name in scenario.links},
        "feeds": {
            "source": "country-default",
            "interval_s": 60,
            "zones": dict.fromkeys(sorted(zones), "FRA"),
        },
        "meters": [],
    }
    return {
        "schema": "carbonpilot/site/1",
        "scenario": scenario_dict(scenario),
        "deployment": parts | deployment,
        "provenance": {
            "measured_utc": "2026-11-01T12:00:00+00:00",
            "carbonpilot_version": "0",
            "numbers": {},
            "node_levels": {},
        },
    }


def site_of(scenario: Scenario, **deployment: Any) -> SiteFile:
    """The same, checked."""
    return validated(SiteFile, site_content(scenario, **deployment), "test site")
