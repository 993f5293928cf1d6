"""Frames through the runtime while a site is calibrated: what is read from their log, and what is left behind."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from test_calibrate_site import BASE, deployment_text

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.real.calibrate.deployment import read_deployment
from carbonpilot.real.calibrate.drafts import UNHURRIED_MS, for_rehearsals
from carbonpilot.real.calibrate.rehearsal import SKIPPED, device_times_ms, head_times_ms, rehearse
from carbonpilot.real.log_records import Attempt

FRAMES, RATE = 12, 20.0
HAND_OVER_MS = 0.3


def draft(folder, model: bytes = b"not really a model"):
    (folder / "model.onnx").write_bytes(model)
    (folder / "deploy.yaml").write_text(deployment_text())
    return for_rehearsals(load_scenario(BASE), read_deployment(folder / "deploy.yaml", folder), {})


def record(service_ms: float, waited_ms: float, head_ms: float = 0.0):
    """A frame: hand-over, wait, head, 2 ms for the turn on the link, the rest; 1 ms of runtime around the call."""
    tail_ms = service_ms - head_ms
    queued_ms = HAND_OVER_MS + waited_ms
    call_ms = queued_ms + service_ms + (2.0 if head_ms else 0.0)
    attempt = Attempt(
        placement="x", started_ms=5.0, ended_ms=5.0 + call_ms, error=None, used=True, prepare_ms=0.5,
        execute_ms=tail_ms - 1.0, finish_ms=0.5, sent_bytes=0, received_bytes=0,
        queued_ms=2.0 if head_ms else queued_ms, head_queued_ms=queued_ms if head_ms else 0.0, head_ms=head_ms,
    )  # fmt: skip
    return SimpleNamespace(attempts=[attempt], latency_ms=call_ms + 1.0)


def test_waiting_for_frames_before_is_no_part_of_what_the_device_takes():
    records = [record(100.0, 0.0), record(120.0, 40.0), record(90.0, 7.0)]
    times = device_times_ms(records)
    np.testing.assert_allclose(times, [101.3, 121.3, 91.3])  # with hand-over and runtime


def test_a_heads_time_is_the_call_before_the_tail_and_the_links_turn():
    records = [record(60.0, 0.0, head_ms=20.0), record(80.0, 15.0, head_ms=30.0)]
    np.testing.assert_allclose(head_times_ms(records), [20.3, 30.3])


def test_the_runtime_plays_frames_and_leaves_nothing(tmp_path):
    site = draft(tmp_path)
    before = sorted(tmp_path.iterdir())
    records = asyncio.run(rehearse(site, tmp_path, FRAMES, RATE, stand_in=True))
    assert [r.frame for r in records] == list(range(SKIPPED, FRAMES))
    assert all(r.executed == "local-b0" and r.overhead_ms > 0 for r in records)
    assert sorted(tmp_path.iterdir()) == before
    far = asyncio.run(rehearse(site, tmp_path, FRAMES, RATE, placement="edge-b0", stand_in=True))
    assert {r.executed for r in far} == {"edge-b0"}


def test_a_runtime_that_does_not_run_says_why_and_leaves_nothing(tmp_path):
    site = draft(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"The runtime did not run: .*model\.onnx"):
        asyncio.run(rehearse(site, tmp_path, FRAMES, RATE))
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_missed_while_it_is_rehearsed(tmp_path):
    site, base = draft(tmp_path), load_scenario(BASE)
    assert site.scenario.slo.latency_ms == UNHURRIED_MS
    assert site.scenario.slo.quantile == base.slo.quantile
    assert site.scenario.placements == base.placements
    assert set(site.provenance.node_levels) == set(base.nodes)
