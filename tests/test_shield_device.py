"""The shield on the device: it never raises, says why, and plans when local steps in."""

import math
from pathlib import Path

import numpy as np
import pytest
from device_room import Wants, site, vector
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs.observation import build_table
from carbonpilot.real.observer import Doubts
from carbonpilot.real.shield import GUARDS, BreakerSettings, Shield, ShieldSettings

SITE = site()
NAMES = [p.name for p in SITE.placements]
COUNT = len(NAMES)
GOOD = vector(SITE)
# The device's upper latency over its belief, from its calibrated quantiles.
LOCAL_FACTOR = Shield(Wants(0), SITE).states(0.0)["placements"]["local-b0"]["upper_over_believed"]


def shield(answer=1, **options):
    return Shield(Wants(answer), SITE, **options)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_it_never_raises_and_always_gives_a_legal_placement(data):
    answers = st.one_of(
        st.integers(-3, COUNT + 2), st.sampled_from([None, 1.0, math.nan, "1", True, np.int64(2), ValueError("x")])
    )  # fmt: skip
    errors = st.sampled_from([None, "timeout", "unreachable", "rejected", "wrong-answer", "cancelled"])
    policy = Wants(0)
    guarded = Shield(policy, SITE, fallback=data.draw(st.sampled_from(["risk", "always", "never"])))
    now_ms, made = 0.0, []
    for _ in range(data.draw(st.integers(1, 12))):
        now_ms += data.draw(st.floats(0, 5000))
        policy.answer = data.draw(answers)
        kind = data.draw(st.sampled_from(["good", "random", "nan", "short", "stale"]))
        observation = GOOD.copy()
        if kind == "random":
            observation = np.random.default_rng(int(now_ms)).uniform(-1, 5, len(GOOD)).astype(np.float32)
        elif kind == "nan":
            observation[data.draw(st.integers(0, len(GOOD) - 1))] = math.nan
        elif kind == "short":
            observation = GOOD[:-1]
        elif kind == "stale":
            observation = vector(SITE, uplink_probe_age_s=9.0)
        decision = guarded.decide(observation, now_ms, waited_ms=data.draw(st.floats(0, 500)))
        assert 0 <= decision.placement < COUNT
        assert decision.mask[0]
        assert decision.mask[decision.placement]
        assert decision.reason in GUARDS
        assert decision.fallback_at_ms is None or 0 <= decision.fallback_at_ms <= SITE.slo.latency_ms
        if decision.placement == 0:
            assert decision.fallback_at_ms is None
        made.append(decision)
        if made and data.draw(st.booleans()):
            done = made.pop(data.draw(st.integers(0, len(made) - 1)))
            error = data.draw(errors)
            latency_ms = data.draw(st.floats(0, 1e4)) if error is None else None
            guarded.record(done.placement, latency_ms, error, now_ms + 1, done)
    states = guarded.states(now_ms)
    assert set(states["placements"]) == set(NAMES)
    assert all(math.isfinite(p["upper_over_believed"]) for p in states["placements"].values())
    assert sum(states["reasons"].values()) == sum(guarded.reasons.values())


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (ValueError("broken weights"), "policy-error", "ValueError: broken weights"),
        (COUNT, "illegal-action", f"answered {COUNT}"),
        (-1, "illegal-action", "answered -1"),
        (math.nan, "illegal-action", "answered nan"),
        (None, "illegal-action", "answered None"),
        (True, "illegal-action", "answered True"),
    ],
)
def test_a_policy_that_fails_is_replaced_by_local(answer, reason, said):
    guarded = shield(answer)
    decision = guarded.decide(GOOD, 0.0)
    assert (decision.placement, decision.wanted, decision.reason) == (0, None, reason)
    assert said in guarded.states(0.0)["policy_error"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e6, -0.1])
def test_a_feature_out_of_range_is_not_shown_to_the_policy(value):
    guarded, table = shield(), build_table(SITE)
    for i in range(len(GOOD)):
        if table.low[i] <= value <= table.high[i]:  # a residual may be below zero
            continue
        broken = GOOD.copy()
        broken[i] = value
        assert guarded.decide(broken, 0.0).reason == "bad-observation"
    assert guarded._policy.seen == []
    assert guarded.decide(GOOD, 0.0).reason == "policy"


def test_what_is_doubtful_is_masked_and_a_doubtful_device_grid_asks_nobody():
    doubts = [Doubts(None, (None, "unknown", None, "stale-feed", None))]
    guarded = shield(1, doubts=lambda: doubts[0])
    decision = guarded.decide(GOOD, 0.0)
    assert decision.mask.tolist() == [True, False, True, False, True]
    assert (decision.placement, decision.wanted, decision.reason) == (0, 1, "unknown")
    doubts[0] = Doubts("stale-feed", (None,) * COUNT)
    decision = guarded.decide(GOOD, 1.0)
    assert (decision.placement, decision.wanted, decision.reason) == (0, None, "stale-feed")
    assert len(guarded._policy.seen) == 1


def test_an_old_average_feed_is_fine_where_the_feed_says_so():
    """The country's yearly average is a year old and still says what it says."""
    old = vector(SITE, feed_age_h=48.0)
    assert shield(1, doubts=lambda: Doubts(None, (None,) * COUNT)).decide(old, 0.0).placement == 1
    assert shield(1).decide(old, 0.0).reason == "stale-feed"


def test_failures_in_a_row_open_the_nodes_breaker_and_an_answer_closes_it():
    guarded = shield(1, breakers=BreakerSettings(failures=3, rest_ms=1000.0))
    for n in range(3):
        decision = guarded.decide(GOOD, 10.0 * n)
        assert decision.placement == 1
        guarded.record(1, None, "unreachable", 10.0 * n + 5, decision)
    decision = guarded.decide(GOOD, 100.0)
    assert (decision.placement, decision.wanted, decision.reason) == (0, 1, "breaker")
    assert decision.mask.tolist() == [True, False, False, True, True]  # both models on the edge node
    assert guarded.states(100.0)["breakers"]["edge"]["state"] == "open"
    assert guarded.states(100.0)["placements"]["edge-b4"]["why"] == "breaker"
    guarded.record(0, 75.0, None, 175.0, decision)
    trial = guarded.decide(GOOD, 1100.0)
    assert trial.placement == 1
    assert trial.fallback_at_ms is not None  # under suspicion: local stands by
    assert guarded.decide(GOOD, 1110.0).placement == 0  # one trial at a time
    guarded.record(1, 60.0, None, 1160.0, trial)
    assert guarded.decide(GOOD, 1200.0).placement == 1
    assert guarded.states(1200.0)["breakers"]["edge"] == {"state": "closed", "failures": 0, "opened": 1}


def test_being_cancelled_by_us_says_nothing_against_a_node():
    guarded = shield(1)
    for n in range(10):
        decision = guarded.decide(GOOD, 10.0 * n)
        guarded.record(1, None, "cancelled", 10.0 * n + 5, decision)
    assert guarded.decide(GOOD, 200.0).placement == 1


def test_a_failing_device_is_tried_elsewhere_for_a_while():
    guarded = shield(0)
    for n in range(3):
        decision = guarded.decide(GOOD, 10.0 * n)
        assert decision.placement == 0
        guarded.record(0, None, "model-error", 10.0 * n + 5, decision)
    faster = vector(SITE, north_b0_latency_ms=40.0)
    decision = guarded.decide(faster, 100.0)
    assert (NAMES[decision.placement], decision.wanted, decision.reason) == ("north-b0", 0, "device-failing")
    blocked = vector(SITE, uplink_probe_age_s=20.0)
    assert guarded.decide(blocked, 110.0).placement == 0  # local is always allowed


def test_local_steps_in_while_its_upper_latency_still_meets_the_objective():
    """Started at the planned time, behind the backlog that is left then, local ends at the SLO at the latest."""
    guarded, slo_ms = shield(1, fallback="always"), SITE.slo.latency_ms
    for backlog_ms in (0.0, 10.0, 30.0, 60.0):
        for waited_ms in (0.0, 20.0):
            believed_ms = 70.0 + backlog_ms
            seen = vector(SITE, local_b0_latency_ms=believed_ms, device_backlog_ms=backlog_ms)
            at_ms = guarded.decide(seen, 0.0, waited_ms).fallback_at_ms
            if believed_ms * LOCAL_FACTOR > slo_ms - waited_ms:
                assert at_ms is None  # it could not make it any more
                continue
            ends_ms = max(at_ms, backlog_ms) + 70.0 * LOCAL_FACTOR
            assert ends_ms == pytest.approx(slo_ms - waited_ms, rel=1e-4)
    assert shield(1, fallback="never").decide(GOOD, 0.0).fallback_at_ms is None


def test_by_default_local_stands_by_where_there_is_reason_to():
    latest_ms = SITE.slo.latency_ms - 70.0 * LOCAL_FACTOR

    def plan(guarded=None, now_ms=0.0, **changes):
        return (guarded or shield(1)).decide(vector(SITE, **changes), now_ms).fallback_at_ms

    assert (
        plan(edge_b0_latency_ms=80.0) is None
    )  # likely in time, and likely not answered at the latest moment
    assert plan(edge_b0_latency_ms=20.0) == pytest.approx(latest_ms, rel=1e-4)  # likely answered by then
    assert plan(edge_b0_latency_ms=140.0) == pytest.approx(latest_ms, rel=1e-4)  # likely late
    assert (
        plan(edge_b0_latency_ms=80.0, slo_budget_spent=0.5, progress=0.1) is not None
    )  # misses ahead of plan
    failed = shield(1)
    failed.record(1, None, "timeout", 10.0, failed.decide(GOOD, 0.0))
    assert plan(failed, 20.0, edge_b0_latency_ms=80.0) is not None  # the last request failed


def test_local_starts_at_once_beside_a_suspect_where_it_may_still_be_in_time():
    """Its upper latency is beyond the objective, what is believed of it is not."""
    likely = SITE.slo.latency_ms - 5.0
    assert likely * LOCAL_FACTOR > SITE.slo.latency_ms
    suspect = shield(1)
    suspect.decide(GOOD, 0.0)  # overdue by now
    for believed_ms, at_ms in ((likely, 0.0), (SITE.slo.latency_ms + 5.0, None)):
        seen = vector(SITE, local_b0_latency_ms=believed_ms, edge_b0_latency_ms=80.0)
        assert suspect.decide(seen, 400.0).fallback_at_ms == at_ms
        assert shield(1).decide(seen, 400.0).fallback_at_ms is None, "nothing is known against the server"


def test_an_overdue_request_casts_doubt_on_its_link_until_it_is_answered():
    guarded = shield(1)
    first = guarded.decide(GOOD, 0.0)
    second = guarded.decide(GOOD, 50.0)
    assert second.upper_ms == first.upper_ms
    late = guarded.decide(GOOD, 400.0)
    assert late.upper_ms == pytest.approx(400.0)  # its own, and as late as the oldest is beyond its own
    assert late.fallback_at_ms is not None
    assert guarded.states(400.0)["placements"]["north-b0"]["upper_ms"] > 300  # the same link
    guarded.record(1, 410.0, None, 410.0, first)
    assert guarded.decide(GOOD, 411.0).upper_ms > 300  # the second is overdue as well
    for decision in (second, late):
        guarded.record(1, 120.0, None, 415.0, decision)
    assert guarded.decide(GOOD, 420.0).upper_ms < 150


def test_a_request_that_nobody_records_is_lost_after_a_while():
    guarded = shield(1)
    guarded.decide(GOOD, 0.0)
    assert guarded.decide(GOOD, 5000.0).upper_ms > 4000
    for now_ms in (60_000.0, 60_001.0):  # one at a time
        last = guarded.decide(GOOD, now_ms)
    assert last.upper_ms < 150


def test_tracked_latencies_follow_the_answers():
    guarded = shield(1, settings=ShieldSettings(tracker_step=0.05, forget_s=1e9))
    rng = np.random.default_rng(0)
    for n in range(3000):
        decision = guarded.decide(GOOD, 100.0 * n)
        guarded.record(1, 70.0 * math.exp(rng.normal(0.2, 0.1)), None, 100.0 * n + 99, decision)
    tracked = guarded.states(0.0)["placements"]["edge-b0"]
    assert tracked["answers"] == 3000
    assert tracked["above"] / 3000 == pytest.approx(0.05, abs=0.01)
    assert tracked["upper_over_believed"] == pytest.approx(math.exp(0.2 + 1.645 * 0.1), rel=0.08)


def test_shadow_mode_executes_elsewhere_and_learns_nothing_of_the_node():
    guarded = shield(1)
    for n in range(20):
        decision = guarded.decide(GOOD, 100.0 * n)
        assert decision.placement == 1
        guarded.record(0, 75.0, None, 100.0 * n + 75, decision)
    assert guarded.states(2000.0)["placements"]["edge-b0"]["answers"] == 0


def test_every_guard_has_its_line_here_and_on_its_page():
    page = (Path(__file__).resolve().parent.parent / "docs" / "shield.md").read_text()
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")][
        : len(GUARDS)
    ] == list(GUARDS)
    assert all(meaning and meaning[-1] != "." for meaning in GUARDS.values())
    assert "policy" in GUARDS
