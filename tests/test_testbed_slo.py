"""Whether a run kept its objective and who could have, and how the test bed's link changes; no test bed is needed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from site_builder import site_of

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.oracle.solvers import solve_budget_coupled
from carbonpilot.real.testbed.changes import DEMO, START_S, demo_schedule, drawn_schedule, told
from carbonpilot.real.testbed.link import CONTROL, Link
from carbonpilot.real.testbed.namespaces import Namespaces, unavailable
from carbonpilot.real.verify.held import calibrated_times_ms, device_alone, kept
from carbonpilot.real.verify.simulated_log import write_simulated_log

ROOT = Path(__file__).resolve().parent.parent
SOURCE = load_scenario(ROOT / "configs" / "testbed" / "base.yaml").links["uplink"].source
RNG = np.random.default_rng


def test_the_demo_is_the_first_and_keeps_its_proportions():
    assert told(demo_schedule()) == "lan 0 s, emu-b 18 s, outage 34 s, lan 42 s"
    half = demo_schedule(30.0)
    assert half.times_s == tuple(t / 2 for t, _ in DEMO)
    assert half.profiles[2].outage


def test_drawn_links_repeat_by_seed_start_open_and_switch_as_the_site_says():
    one = drawn_schedule(SOURCE, 60.0, RNG([0, 1]))
    assert one == drawn_schedule(SOURCE, 60.0, RNG([0, 1]))
    assert one != drawn_schedule(SOURCE, 60.0, RNG([0, 2]))
    many = [drawn_schedule(SOURCE, 4000.0, RNG(k)) for k in range(5)]
    seconds: dict[str, float] = {}
    for plan in many:
        assert not plan.profiles[0].outage
        assert plan.times_s[0] == 0
        assert all(
            later - earlier > 0 for earlier, later in zip(plan.times_s, plan.times_s[1:], strict=False)
        )
        assert plan.times_s[1] >= START_S
        for profile, begin, end in zip(
            plan.profiles, plan.times_s, (*plan.times_s[1:], plan.end_s), strict=True
        ):
            seconds[profile.name] = seconds.get(profile.name, 0.0) + end - begin
    # Stays of 20, 15, 15 and 5 s; the LAN is twice as often the next one.
    assert seconds["lan"] > seconds["emu-a"] > 2 * seconds["outage"]
    assert 0.03 < seconds["outage"] / 20_000 < 0.15


def test_a_condition_that_the_bed_cannot_be_is_named():
    other = SOURCE.model_copy(update={"conditions": {**SOURCE.conditions, "moon": SOURCE.conditions["lan"]}})
    with pytest.raises(InputError, match="condition 'moon', and the test bed can be lan"):
        drawn_schedule(other, 60.0, RNG(0))


@pytest.mark.parametrize(("service_ms", "share"), [(90.0, 0.0), (151.0, 1.0), (110.0, 0.95)])
def test_the_device_alone_queues(service_ms, share):
    """110 ms every 100 ms: the sixth frame waits 50 ms and is late, and so is every later one."""
    found = device_alone(np.arange(100) * 100.0, {}, np.array([service_ms]), 150.0, RNG(0))
    assert found == pytest.approx(share, abs=0.011)


def test_measured_times_of_frames_count_for_themselves():
    slow = device_alone(np.arange(100) * 100.0, {50: 1000.0}, np.array([50.0]), 150.0, RNG(0))
    assert slow == pytest.approx(
        0.17, abs=0.02
    )  # a second of backlog, half a frame's time worked off with each


def test_a_calibrated_device_has_its_quantiles(tiny_scenario):
    times = calibrated_times_ms(tiny_scenario(), RNG(0))
    assert np.quantile(times, 0.5) == pytest.approx(90, rel=0.05)
    assert np.quantile(times, 0.95) == pytest.approx(110, rel=0.05)


def hindsight(scenario, tape):
    return solve_budget_coupled(scenario, tape).plan


@pytest.fixture
def scenario(tiny_scenario):
    return tiny_scenario(episode={"requests": 200})


def test_a_run_is_judged_with_the_device_and_hindsight(tmp_path, scenario):
    log = write_simulated_log(tmp_path / "log.jsonl", scenario, lambda n, _: n % 2)
    found = kept(log, site_of(scenario), hindsight)
    assert found.frames == 200
    assert found.held
    assert found.possible
    assert found.local_times == "this run"
    assert found.local_over <= 0.05
    assert found.hindsight_over <= 0.05
    assert found.executed == {"local": 100, "edge-b0": 100}
    assert found.reasons == {"policy": 200}


def test_frames_without_a_result_are_over_and_count_for_the_quantile(tmp_path, scenario):
    log = write_simulated_log(tmp_path / "log.jsonl", scenario, lambda n, _: 1)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    frames = [line for line in lines if line["kind"] == "frame"]
    for line in frames[:30]:
        line.update(executed=None, latency_ms=None, missed=True, reason="overload", attempts=[])
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = kept(log, site_of(scenario), None)
    assert found.over >= 0.15
    assert not found.held
    assert found.p95_ms == float("inf")
    assert found.hindsight_over is None
    assert found.local_times == "calibrated"
    assert found.possible  # the device alone
    assert found.executed["no result"] == 30
    assert kept(log, site_of(scenario), None, others_ms=[200.0] * 30).local_times == "all runs"
    assert not kept(log, site_of(scenario), None, others_ms=[200.0] * 30).possible


def test_nobody_can_over_a_link_that_is_cut_with_a_slow_device(tmp_path, tiny_scenario):
    slow = tiny_scenario(episode={"requests": 200})
    content = slow.model_dump(mode="json", by_alias=True, exclude_none=True)
    content["placements"][0]["service"] = {"distribution": "deterministic", "mean_ms": 400.0}
    content["links"]["uplink"]["source"]["phases"][0]["rtt_ms"] = 600.0
    slow = type(slow).model_validate(content)
    log = write_simulated_log(tmp_path / "log.jsonl", slow, lambda n, _: n % 2)
    found = kept(log, site_of(slow), hindsight)
    assert not found.held
    assert not found.possible


def test_the_benchmarks_total_counts_runs_that_can_be_held(tmp_path, scenario, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    try:
        script = importlib.import_module("testbed_slo")
        log = write_simulated_log(tmp_path / "log.jsonl", scenario, lambda n, _: n % 2)
        good = kept(log, site_of(scenario), None)
        rows = [good, good, replace(good, over=0.2), replace(good, over=0.2, local_over=1.0)]
        plans = [demo_schedule()] * 4
        script.show(rows, plans, [{"p99": 0.4}] * 3 + [{}])
        assert "held in 2 of 3 runs in which local or hindsight can: 67 %" in capsys.readouterr().out
        held, share = script.total(rows)
        assert held == [True, True, False]
        assert share.low < 0.67 < share.high
    finally:
        for name in ("testbed_slo", "testbed_road"):
            sys.modules.pop(name, None)


@pytest.mark.skipif(
    unavailable() is not None or not os.path.exists("/dev/net/tun"),
    reason=f"no test bed here: {unavailable() or '/dev/net/tun is missing'}",
)
def test_the_demo_plays_its_changes_on_a_running_link(tmp_path):
    with Namespaces() as ns, Link(ns.device, ns.server, control=tmp_path / CONTROL) as link:
        argv = [sys.executable, "-m", "carbonpilot.real.testbed.changes", "--state", str(tmp_path)]
        subprocess.run(argv, check=True, timeout=60)
        playing = link.counters()["schedule"]
        assert (playing["step"], playing["steps"], playing["ended"]) == (1, len(DEMO), False)
