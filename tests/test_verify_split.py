"""Verify with split placements: a simulated run fits its own site, and what was perturbed is named, head or tail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from site_builder import site_of
from split_site import SPLIT_PLACE
from test_site_split import TAIL, WHOLE

from carbonpilot.envs.scenario import scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated
from carbonpilot.real.log_records import FrameRecord, read_log, to_line
from carbonpilot.real.verify.simulated_log import write_simulated_log
from carbonpilot.real.verify.verification import verify_log

CLEAN = {"kind": "phases", "phases": [{"rtt_ms": 20, "jitter_ms": 2, "loss_pct": 0, "rate_mbps": 50}]}


@pytest.fixture
def scenario(tiny, tiny_scenario) -> Scenario:
    """Head, tail and link as sharp as they come; frames come slowly enough for the device."""
    return tiny_scenario(
        episode={"requests": 300},
        links={"uplink": {"source": CLEAN}},
        placements=[*tiny["placements"], SPLIT_PLACE],
        arrivals={"low_per_s": 5, "high_per_s": 5},
    )


def changed(scenario: Scenario, change) -> Scenario:
    content: dict[str, Any] = scenario_dict(scenario)
    change(content["placements"][2])
    return validated(Scenario, content, "changed")


def verified(tmp_path, believed: Scenario, truth: Scenario | None = None, turns=(0, 1, 2)):
    log = tmp_path / "log.jsonl"
    write_simulated_log(log, truth or believed, lambda n, _: turns[n % 3], seed=3, believed=believed)
    return verify_log(log, site_of(believed, remote={"edge-b0": WHOLE, "edge-cut": TAIL}))


def test_predicted_is_measured(tmp_path, scenario):
    found = verified(tmp_path, scenario)
    assert found.ok, [c for c in found.checks if not c.ok]
    split = next(t for t in found.totals if t.placement == "edge-cut")
    assert split.count == 100
    assert split.head_ms.measured == pytest.approx(25, rel=0.01)
    assert split.head_ms.predicted == pytest.approx(25, rel=0.01)
    assert abs(split.rest_ms.relative_error) < 0.03
    assert split.energy_j.relative_error == pytest.approx(0, abs=0.03)
    assert all(t.head_ms is None for t in found.totals if t.placement != "edge-cut")
    lines = [r for r in read_log(tmp_path / "log.jsonl") if isinstance(r, FrameRecord)]
    assert {a.sent_bytes for r in lines for a in r.attempts if a.placement == "edge-cut"} == {12_500}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda p: p["split"]["service"].update(mean_ms=32), "placements.2.split.service"),
        (lambda p: p["service"].update(mean_ms=18), "placements.2.service"),
        (lambda p: p["split"].update(active_energy_j=0.8), "placements.2.split.active_energy_j"),
    ],
)
def test_what_was_perturbed_is_named(tmp_path, scenario, change, part):
    found = verified(tmp_path, scenario, changed(scenario, change))
    assert found.recalibrate == [part]


def test_waiting_for_the_device_is_no_slow_head(tmp_path, scenario):
    """Heads come right after whole frames: they queue, and are as quick as they were calibrated."""
    busy = scenario.model_copy(
        update={"arrivals": scenario.arrivals.model_copy(update={"low_per_s": 12.0, "high_per_s": 12.0})}
    )
    found = verified(tmp_path, busy, turns=(0, 2, 1))
    split = next(t for t in found.totals if t.placement == "edge-cut")
    assert found.requests.device_wait_ms.max() > 5
    assert split.head_ms.measured == pytest.approx(25, rel=0.01)
    assert "placements.2.split.service" not in found.recalibrate


def test_the_runs_own_waits_are_read_from_the_log(tmp_path, scenario):
    """A line whose head waited 40 ms and took 10: both are in the comparison, and the rest is what is left."""
    log = tmp_path / "log.jsonl"
    write_simulated_log(log, scenario, lambda n, _: 2, seed=1)

    def rewritten(record):
        if not isinstance(record, FrameRecord):
            return record
        (call,) = record.attempts
        return replace(record, attempts=[replace(call, head_queued_ms=40.0, head_ms=10.0)])

    records = [rewritten(r) for r in read_log(log)]
    log.write_text("".join(to_line(r) for r in records))
    found = verify_log(log, site_of(scenario, remote={"edge-b0": WHOLE, "edge-cut": TAIL}))
    assert set(found.requests.head_ms) == {10.0}
    (total,) = found.totals
    latency = np.mean([r.latency_ms for r in records if isinstance(r, FrameRecord)])
    assert total.rest_ms.measured == pytest.approx(latency - 50.0)
    assert "placements.2.split.service" in found.recalibrate
