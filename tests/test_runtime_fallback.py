"""The engine's fallback: late, failed and beaten calls, and which of two answers is used."""

from __future__ import annotations

import pytest
from engine_fixture import LOCAL_OK, FakeMind, play

from carbonpilot.real.runtime.race import Limits


def test_fallback_in_time_when_the_remote_is_late_and_the_late_answer_still_teaches():
    mind = FakeMind([("place", "edge", 0.05)])
    _, results, recorder, _ = play(mind, {"local": LOCAL_OK, "edge": [("answer", 0.25)]}, frames=1, rest_s=1)
    (story,) = recorder.stories
    assert story.fallback == "deadline"
    assert results[0].placement == "local"
    assert results[0].latency_ms == pytest.approx(110)
    edge, local = story.calls
    assert (edge.placement, edge.beaten, edge.error) == ("edge", True, None)
    assert (edge.ended_s - edge.started_s) == pytest.approx(0.25)
    assert edge in mind.ends
    assert edge.answer is not None
    assert not edge.used
    assert local.used


def test_the_remote_wins_if_it_answers_while_the_fallback_runs():
    mind = FakeMind([("place", "edge", 0.05)])
    _, results, recorder, executors = play(
        mind, {"local": LOCAL_OK, "edge": [("answer", 0.08)]}, frames=1, rest_s=1
    )
    assert results[0].placement == "edge"
    assert results[0].latency_ms == pytest.approx(80)
    edge, local = recorder.stories[0].calls
    assert local.error is None  # what the device computes cannot be stopped, and is charged
    assert executors["local"].cancelled == 0
    assert edge.used


def test_a_beaten_call_gives_way_to_a_frame_that_waits():
    """One turn: the beaten call of frame 0 would hold it for 0.3 s, frame 1 needs it after 0.2 s."""
    mind = FakeMind([("place", "edge", 0.05)])
    limits = Limits(in_flight=1, remote_timeout_s=0.3, local_timeout_s=1.0, give_up_s=2.0)
    _, results, recorder, executors = play(
        mind, {"local": LOCAL_OK, "edge": [("hang",), ("answer", 0.02)]}, frames=2, gap_s=0.2, limits=limits
    )
    assert [r.placement for r in results] == ["local", "edge"]
    assert executors["edge"].cancelled == 1
    first = next(s for s in recorder.stories if s.number == 0)
    assert first.calls[0].error == "cancelled"


@pytest.mark.parametrize("kind", ["unreachable", "rejected", "wrong-answer", "model-error"])
def test_a_failed_remote_is_replaced_at_once(kind):
    mind = FakeMind([("place", "edge", 0.1)])
    _, results, recorder, _ = play(mind, {"local": LOCAL_OK, "edge": [("fail", 0.01, kind)]}, frames=1)
    assert results[0].placement == "local"
    assert results[0].latency_ms == pytest.approx(70)
    assert recorder.stories[0].fallback == kind


def test_a_failing_device_is_replaced_by_a_server_where_the_mask_allows_one():
    mind = FakeMind([("place", "local", None)])
    scripts = {"local": [("fail", 0.01, "model-error")], "edge": [("answer", 0.03)]}
    _, results, recorder, _ = play(mind, scripts, frames=3)
    assert [r.placement for r in results] == ["edge"] * 3
    assert recorder.stories[0].fallback == "model-error"
    nowhere = FakeMind([("place", "local", None)], backup=None)
    engine, results, recorder, _ = play(nowhere, scripts, frames=3)
    assert [r.placement for r in results] == [None] * 3
    assert engine.totals.answered == 0
    assert engine.totals.recorded == 3
