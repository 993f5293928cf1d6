"""What the observer makes of an endless stream: the budget, restarts, unknown values, throttling, levels."""

import dataclasses
import logging
import math
import subprocess
import sys

import numpy as np
import pytest
from device_room import PAYLOAD_KB, informed, link_state, quick_levels, site, snapshot, zone, zones
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs.beliefs import local_numbers
from carbonpilot.real.observer import Carried, MeasuredThrottle, Observer, node_levels
from carbonpilot.real.observer.levels import current_levels
from carbonpilot.real.observer.throttle import cooling
from carbonpilot.real.probes.triton_load import LoadState


def feature(observer, vector, name):
    """A feature of a vector in its unit."""
    row = observer.table.features[observer.table.index[name]]
    return float(vector[observer.table.index[name]]) * row.scale


def budget(observer, vector):
    return tuple(feature(observer, vector, n) for n in ("slo_budget_spent", "progress", "recent_miss_rate"))


@settings(deadline=None, max_examples=50)
@given(
    frames=st.lists(st.tuples(st.floats(1, 200), st.floats(1, 400), st.booleans()), min_size=1, max_size=60),
    restart=st.integers(0, 60),
)
def test_the_budget_counts_each_frame_in_its_own_block(frames, restart):
    """Frames (gap, latency, skipped) against a count by hand; a restart in between changes nothing of it."""
    scenario = site(requests=10)
    slo_ms, allowed = scenario.slo.latency_ms, 1.0  # at least one miss may happen
    observer, now_ms, started, known = informed(scenario), 0.0, 0, []
    for n, (gap_ms, latency_ms, skipped) in enumerate(frames):
        now_ms += gap_ms
        if n == restart:
            for frame, at_ms, missed in known:
                observer.finished(frame - started, at_ms, missed)
            known = [(frame, min(at_ms, now_ms), missed) for frame, at_ms, missed in known]  # it drains first
            observer = informed(scenario, carried=observer.carry())
            started, now_ms = n, now_ms + 1000.0
        for frame, at_ms, missed in list(known):
            if at_ms <= now_ms:
                observer.finished(frame - started, at_ms, missed)
        if skipped:
            observer.skipped(now_ms, missed=True)
            known.append((n, now_ms, True))
            continue
        vector = observer.observe(now_ms, PAYLOAD_KB)
        assert observer.frame == n - started
        block = [k for k in known if k[0] // 10 == n // 10]
        # Known in the order of the frames: one that is open holds back those behind it.
        expected = 0
        for _, at_ms, missed in block:
            if at_ms > now_ms:
                break
            expected += missed
        spent, progress, _ = budget(observer, vector)
        assert progress == pytest.approx((n % 10) / 10, abs=1e-6)
        if not any(at_ms > now_ms for f, at_ms, _ in known if f // 10 < n // 10):
            assert spent == pytest.approx(min(expected / allowed, 4), abs=1e-6)
        known.append((n, now_ms + min(latency_ms, slo_ms), latency_ms > slo_ms))


def test_a_frame_without_result_is_a_miss_once_its_deadline_has_passed():
    observer = informed(site())
    observer.observe(0.0, PAYLOAD_KB)
    assert budget(observer, observer.observe(100.0, PAYLOAD_KB))[0] == 0
    assert budget(observer, observer.observe(150.0, PAYLOAD_KB))[0] == pytest.approx(0.02)
    observer.finished(0, 160.0, missed=False)  # too late to be believed
    assert budget(observer, observer.observe(260.0, PAYLOAD_KB))[0] == pytest.approx(0.04)


def test_a_deadline_counts_from_when_the_frame_was_there():
    observer = informed(site())
    observer.observe(500.0, PAYLOAD_KB, issued_ms=360.0)
    assert budget(observer, observer.observe(510.0, PAYLOAD_KB))[0] == pytest.approx(0.02)


def test_a_restart_goes_on():
    observer = informed(site(requests=10), carried=Carried(frames=7, missed=1.0, recent_miss_rate=0.2))
    spent, progress, recent = budget(observer, observer.observe(0.0, PAYLOAD_KB))
    assert (spent, progress, recent) == (pytest.approx(1.0), pytest.approx(0.7), pytest.approx(0.2))
    assert observer.frame == 0
    assert observer.carry() == Carried(8, 2.0, 0.2)  # the open frame counts as missed until it is finished
    observer.finished(0, 50.0, missed=False)
    assert observer.carry() == Carried(8, 1.0, 0.2)
    for now_ms in (1000.0, 2000.0):
        observer.observe(now_ms, PAYLOAD_KB)
    assert observer.carry().frames == 0  # the block is full


def test_attempts_show_as_backlog_until_they_end():
    scenario = site()
    observer = informed(scenario)
    local_ms, _ = local_numbers(scenario.placements[0])
    observer.observe(0.0, PAYLOAD_KB)
    local = observer.placed(0.0, 0, PAYLOAD_KB)
    remote = observer.placed(0.0, 1, PAYLOAD_KB)
    vector = observer.observe(10.0, PAYLOAD_KB)
    assert feature(observer, vector, "device_backlog_ms") == pytest.approx(local_ms - 10, rel=1e-5)
    upload_ms = PAYLOAD_KB * 8 / 50
    assert feature(observer, vector, "uplink_backlog_ms") == pytest.approx(upload_ms - 10, abs=1e-3)
    assert feature(observer, vector, "edge_outstanding_ms") == pytest.approx(10, abs=1e-4)
    assert (
        feature(observer, vector, "edge-b0_latency_ms") > feature(observer, vector, "local-b0_latency_ms") / 9
    )
    observer.sent(remote, 11.0)
    vector = observer.observe(12.0, PAYLOAD_KB)
    assert feature(observer, vector, "uplink_backlog_ms") == 0
    assert feature(observer, vector, "radio_tail_s") == pytest.approx(
        scenario.device.radio.tail_s - 0.001, rel=1e-4
    )
    observer.answered(remote, 60.0)
    observer.answered(remote, 61.0)  # twice changes nothing
    observer.answered(local, 70.0)
    vector = observer.observe(100.0, PAYLOAD_KB)
    assert feature(observer, vector, "edge_last_latency_ms") == pytest.approx(60, abs=1e-3)
    assert feature(observer, vector, "edge_last_answer_age_s") == pytest.approx(0.04, abs=1e-5)
    assert (
        feature(observer, vector, "edge_outstanding_ms")
        == feature(observer, vector, "device_backlog_ms")
        == 0
    )
    assert observer.device_state().heat > 0


def test_an_answer_tells_how_far_off_the_belief_was_and_how_fast_it_was_sent():
    scenario = site()
    observer = informed(scenario)
    believed_ms = feature(observer, observer.observe(0.0, PAYLOAD_KB), "edge-b0_latency_ms")
    attempt = observer.placed(0.0, 1, PAYLOAD_KB)
    observer.answered(attempt, believed_ms + 30.0, None, None, sending_ms=16.0)
    vector = observer.observe(200.0, PAYLOAD_KB)
    assert feature(observer, vector, "edge_residual_ms") == pytest.approx(30, abs=1e-3)
    assert feature(observer, vector, "uplink_residual_ms") == pytest.approx(3, abs=1e-3)
    assert feature(observer, vector, "uplink_residual_deviation_ms") == pytest.approx(3, abs=1e-3)
    assert feature(observer, vector, "uplink_sent_mbps") == pytest.approx(PAYLOAD_KB * 8 / 16, rel=1e-6)
    assert feature(observer, vector, "uplink_sent_age_s") == pytest.approx(0.2, rel=1e-6)
    later = observer.placed(200.0, 1, PAYLOAD_KB)
    observer.answered(later, 260.0)  # not watched: the rate before it stays, and ages
    vector = observer.observe(300.0, PAYLOAD_KB)
    assert feature(observer, vector, "uplink_sent_mbps") == pytest.approx(40, rel=1e-6)
    assert feature(observer, vector, "uplink_sent_age_s") == pytest.approx(0.3, rel=1e-6)


def test_an_answer_of_which_nothing_was_believed_is_no_surprise():
    scenario = site()
    observer = Observer(scenario, quick_levels(scenario))
    observer.observe(0.0, PAYLOAD_KB)
    observer.answered(observer.placed(0.0, 1, PAYLOAD_KB), 500.0)
    vector = observer.observe(600.0, PAYLOAD_KB)
    assert feature(observer, vector, "edge_last_latency_ms") == pytest.approx(500, rel=1e-5)
    assert feature(observer, vector, "edge_residual_ms") == 0
    assert feature(observer, vector, "uplink_residual_ms") == 0


def test_before_the_first_refresh_everything_is_unknown_and_nothing_good_is_shown():
    scenario = site()
    observer = Observer(scenario, quick_levels(scenario))
    vector = observer.observe(0.0, PAYLOAD_KB)
    wishes = {"wish_carbon", "wish_latency", "wish_accuracy"}
    second = {f.name for f in observer.table.features if f.clock == "second"}
    assert set(observer.unknown) == second - wishes
    assert observer.doubts.device == "unknown"
    assert np.isfinite(vector).all()
    assert feature(observer, vector, "uplink_uplink_mbps") == 0
    assert feature(observer, vector, "uplink_rtt_ms") == pytest.approx(2000)
    assert feature(observer, vector, "edge-b0_latency_ms") == pytest.approx(4 * scenario.slo.latency_ms)
    assert not set(observer.unknown) & set(observer.features())
    assert "edge-b0_latency_ms" not in observer.features()
    assert "local-b0_latency_ms" in observer.features()


def test_what_is_unknown_or_stale_makes_its_placements_doubtful():
    scenario = site()
    observer = informed(scenario)
    assert observer.unknown == ()
    assert observer.doubts.device is None
    assert set(observer.doubts.placements) == {None}
    names = [p.name for p in scenario.placements]

    def doubted(**given):
        values = {"links": None, "loads": None, **given}
        extra = values.pop("zones", zones(scenario))
        observer.refresh(snapshot(scenario, **values), extra, 0.0)
        return {n: why for n, why in zip(names, observer.doubts.placements, strict=True) if why}

    assert doubted(links={"uplink": link_state(rtt_ms=None)}) == dict.fromkeys(names[1:], "unknown")
    assert doubted(links={"uplink": link_state(uplink_mbps=None)}) == dict.fromkeys(names[1:], "unknown")
    assert doubted(loads={"north": LoadState()}) == {"north-b0": "unknown"}
    away = scenario.nodes["south"].zone
    assert doubted(zones=zones(scenario, **{away: None})) == {"south-b0": "unknown"}
    assert doubted(zones=zones(scenario, **{away: zone(stale=True)})) == {"south-b0": "stale-feed"}
    assert "feed_age_h" not in observer.unknown
    home = scenario.device.zone
    doubted(zones=zones(scenario, **{home: zone(stale=True)}))
    assert observer.doubts.device == "stale-feed"
    doubted(zones=zones(scenario, **{home: None}))
    assert observer.doubts.device == "unknown"
    assert {"device_carbon_g_per_kwh", "feed_age_h", "local-b0_carbon_mg"} <= set(observer.unknown)


@pytest.mark.parametrize(
    ("links", "loads"),
    [
        ({"uplink": link_state(uplink_mbps=0.0)}, {}),
        ({"uplink": link_state(rtt_ms=math.inf)}, {}),
        ({"uplink": link_state(rtt_ms=math.nan)}, {}),
        ({}, {n: LoadState(load=math.nan, measured_s=1.0) for n in ("edge", "north", "south")}),
    ],
)
def test_values_that_say_nothing_are_unknown(links, loads):
    scenario = site()
    observer = informed(scenario)
    observer.refresh(snapshot(scenario, links, loads), zones(scenario), 0.0)
    assert observer.doubts.placements == (None, *["unknown"] * 4)
    assert np.isfinite(observer.observe(0.0, PAYLOAD_KB)).all()
    attempt = observer.placed(0.0, 1, PAYLOAD_KB)  # nobody should, but it must not break anything
    observer.answered(attempt, 5.0)
    assert np.isfinite(observer.observe(50.0, PAYLOAD_KB)).all()


def test_the_oldest_feed_gives_the_age():
    scenario = site()
    observer = informed(scenario)
    away = scenario.nodes["south"].zone
    observer.refresh(snapshot(scenario), zones(scenario, **{away: zone(age_s=7200.0)}), 0.0)
    assert feature(observer, observer.observe(0.0, PAYLOAD_KB), "feed_age_h") == pytest.approx(2.0)


def test_throttling_is_seen_in_service_times_with_hysteresis_and_forgotten():
    spec = site().device.throttling
    throttle = MeasuredThrottle(spec)
    slow, halfway = 100.0 * spec.slowdown, 100.0 * (1 + 0.45 * (spec.slowdown - 1))
    seen = []
    for n, service_ms in enumerate([100.0] * 5 + [slow] * 10 + [halfway] * 30 + [100.0] * 10):
        throttle.served(100.0 * n, service_ms, 100.0)
        seen.append(throttle.throttled(100.0 * n))
    assert not any(seen[:6])
    assert all(seen[10:45])  # halfway keeps what it was
    assert not seen[-1]
    for n in range(10):
        throttle.served(6000.0 + 100 * n, slow, 100.0)
    assert throttle.throttled(7000.0)
    assert not throttle.throttled(7000.0 + 1000 * spec.time_constant_s)
    for n in range(10):
        throttle.served(1e6 + n, halfway, 100.0)
    assert not throttle.throttled(1e6 + 10)  # halfway does not switch it on


def test_a_device_that_never_throttles_never_does():
    throttle = MeasuredThrottle(None)
    throttle.served(0.0, 1000.0, 1.0)
    assert not throttle.throttled(1.0)


def test_the_kernels_cooling_devices_are_asked_but_not_fans(tmp_path):
    def device(number, kind, state):
        folder = tmp_path / "class" / "thermal" / f"cooling_device{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "type").write_text(kind + "\n")
        (folder / "cur_state").write_text(state)

    assert cooling(tmp_path) is None
    device(0, "pwm-fan", "3")
    assert cooling(tmp_path) is None
    device(1, "cpufreq-cpu0", "0")
    assert cooling(tmp_path) is False
    throttle = MeasuredThrottle(site().device.throttling, tmp_path)
    throttle.look()
    assert not throttle.throttled(0.0)
    device(2, "devfreq-17000000.gpu", "2")
    assert cooling(tmp_path) is True
    throttle.look()
    assert throttle.throttled(0.0)
    (tmp_path / "class/thermal/cooling_device2/cur_state").write_text("not a number")
    assert cooling(tmp_path) is False


def test_service_times_reach_the_throttle():
    scenario = site()
    observer = informed(scenario)
    calibrated_ms, _ = local_numbers(scenario.placements[0])
    for n in range(12):
        observer.observe(200.0 * n, PAYLOAD_KB)
        attempt = observer.placed(200.0 * n, 0, PAYLOAD_KB)
        slow_ms = calibrated_ms * scenario.device.throttling.slowdown
        observer.answered(attempt, 200.0 * n + slow_ms, service_ms=slow_ms)
    vector = observer.observe(3000.0, PAYLOAD_KB)
    assert feature(observer, vector, "device_throttled") == 1
    assert observer.device_state().throttled
    expected_ms = calibrated_ms * scenario.device.throttling.slowdown
    # What was slow before it counted as throttled still lingers in the smoothed ratio to the calibration.
    assert feature(observer, vector, "local-b0_latency_ms") == pytest.approx(expected_ms, rel=0.04)


def test_levels_are_kept_and_made_again_with_a_warning_where_the_node_has_changed(tiny_scenario, caplog):
    scenario = tiny_scenario()
    made = node_levels(scenario)["edge"]
    assert len(made.load) == len(made.wait_ms) == len(made.batch) == 25
    assert made.wait_ms[-1] > made.wait_ms[0]
    marked = made.model_copy(update={"batch": [3.0] * 25})
    with caplog.at_level(logging.WARNING):
        assert current_levels(scenario, {"edge": marked})["edge"] == marked
    assert not caplog.records
    faster = tiny_scenario(nodes={"edge": {"background": {"service_ms": 9}}})
    with caplog.at_level(logging.WARNING):
        again = current_levels(faster, {"edge": marked})["edge"]
    assert again == node_levels(faster)["edge"]
    assert "provenance.node_levels.edge is of other numbers" in caplog.text
    alone = tiny_scenario(nodes={"edge": {"background": None}})
    assert node_levels(alone)["edge"].wait_ms == [0.0]


def test_carried_numbers_are_plain():
    assert dataclasses.asdict(Carried(3, 1.0, 0.5)) == {"frames": 3, "missed": 1.0, "recent_miss_rate": 0.5}
    assert math.isfinite(Carried().missed)


def test_the_device_never_loads_numba():
    """It would take a second and a hundred megabytes."""
    program = (
        "import sys; import carbonpilot.real.observer, carbonpilot.real.shield, carbonpilot.agents.frozen; "
        "print(sorted(m for m in ('numba', 'scipy', 'torch', 'gymnasium') if m in sys.modules))"
    )
    blocked = "import sys; sys.modules['gymnasium'] = None; "
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocked + program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "['gymnasium']"
