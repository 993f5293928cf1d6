"""The shield around split models: resting nodes, failing heads, whether the device comes in time."""

from __future__ import annotations

import pytest
from device_room import Wants, site, vector

from carbonpilot.envs.beliefs import device_shares
from carbonpilot.real.shield import BreakerSettings, Shield
from carbonpilot.real.shield.heads import Heads

SPLIT = site("split")
NAMES = [p.name for p in SPLIT.placements]
CUT, WHOLE, OTHER = NAMES.index("edge-cut-022"), NAMES.index("edge"), NAMES.index("north-cut-022")


def shield(answer=CUT, **settings):
    return Shield(Wants(answer), SPLIT, **settings)


def test_a_resting_node_takes_no_tails_either():
    guarded, seen = shield(breakers=BreakerSettings(failures=2, rest_ms=1000.0)), vector(SPLIT)
    for n in range(2):
        guarded.record(CUT, None, "unreachable", 10.0 * n, guarded.decide(seen, 10.0 * n))
    decision = guarded.decide(seen, 100.0)
    allowed = {name for name, may in zip(NAMES, decision.mask, strict=True) if may}
    assert allowed == {"local", "north", "north-cut-022"}
    assert (decision.placement, decision.reason) == (0, "breaker")


def test_a_failing_head_rests_alone():
    """It says nothing about its node, nor about the device's own model."""
    guarded, seen = shield(breakers=BreakerSettings(failures=2, rest_ms=1000.0)), vector(SPLIT)
    for n in range(2):
        guarded.record(CUT, None, "model-error", 10.0 * n, guarded.decide(seen, 10.0 * n), at_head=True)
    decision = guarded.decide(seen, 100.0)
    forbidden = {name for name, may in zip(NAMES, decision.mask, strict=True) if not may}
    assert forbidden == {"edge-cut-022"}
    states = guarded.states(100.0)["breakers"]
    assert states["head of edge-cut-022"]["state"] == "open"
    assert states["edge"]["failures"] == states["local"]["failures"] == 0
    trial = guarded.decide(seen, 1100.0)
    assert trial.placement == CUT
    guarded.record(CUT, 60.0, None, 1160.0, trial)
    assert guarded.states(1200.0)["breakers"]["head of edge-cut-022"]["state"] == "closed"


def test_a_trial_that_never_came_to_its_node_is_none():
    """The node rests; its trial is a split request whose head fails: the next request is the trial."""
    guarded, seen = shield(breakers=BreakerSettings(failures=1, rest_ms=1000.0)), vector(SPLIT)
    guarded.record(CUT, None, "unreachable", 0.0, guarded.decide(seen, 0.0))
    trial = guarded.decide(seen, 1001.0)
    assert trial.placement == CUT
    guarded.record(CUT, None, "cancelled", 1010.0, trial, at_head=True)
    assert guarded.decide(seen, 1020.0).placement == CUT
    assert guarded.states(1020.0)["breakers"]["edge"]["opened"] == 1


def test_local_steps_in_only_where_it_is_in_time_behind_the_head():
    """Started at the planned time, behind backlog and head, local ends at the SLO at the latest."""
    guarded, slo_ms = shield(fallback="always"), SPLIT.slo.latency_ms
    factor = guarded.states(0.0)["placements"]["local"]["upper_over_believed"]
    heads = Heads(SPLIT, _table())
    planned = 0
    for local_ms in (30.0, 60.0, 80.0, 110.0):
        for backlog_ms in (0.0, 10.0, 40.0):
            seen = vector(SPLIT, local_latency_ms=local_ms + backlog_ms, device_backlog_ms=backlog_ms)
            head_ms = heads.head_ms(seen.tolist(), CUT)
            assert head_ms == pytest.approx(local_ms * device_shares(SPLIT)[CUT], rel=0.02)
            at_ms = guarded.decide(seen, 0.0).fallback_at_ms
            if (local_ms + backlog_ms + head_ms) * factor > slo_ms:
                assert at_ms is None
                continue
            planned += 1
            begins_ms = max(at_ms, (backlog_ms + head_ms) * factor)
            assert begins_ms + local_ms * factor == pytest.approx(slo_ms, rel=1e-3)
    assert planned >= 6


def test_what_needs_the_device_does_not_stand_in_for_it():
    guarded, seen = shield(0), vector(SPLIT, edge_cut_022_latency_ms=20.0, edge_latency_ms=90.0)
    for n in range(3):
        guarded.record(0, None, "model-error", 10.0 * n, guarded.decide(seen, 10.0 * n))
    decision = guarded.decide(seen, 100.0)
    assert (decision.reason, NAMES[decision.placement].split("-")[-1] in ("edge", "north")) == (
        "device-failing",
        True,
    )


def _table():
    from carbonpilot.envs.observation import build_table

    return build_table(SPLIT)
