"""The engine: one result and one record for each frame, whatever the executors, the policy and the stop do."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import numpy as np
from engine_fixture import LIMITS, LOCAL_OK, MASK, FakeMind, answer, play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbonpilot.real.runtime.race import Limits

PATIENT = Limits(in_flight=2, remote_timeout_s=9, local_timeout_s=9, give_up_s=9)
SECONDS = st.floats(0.0, 0.5, allow_nan=False).map(lambda s: round(s, 3))
KINDS = st.sampled_from(["timeout", "unreachable", "rejected", "wrong-answer", "model-error", "cancelled"])
WRONG = st.sampled_from([None, answer(MASK.astype(np.float32)), answer(MASK[0]), answer(MASK[:0]), "mask"])
ACTS = st.one_of(
    SECONDS.map(lambda s: ("answer", s)),
    st.tuples(st.just("fail"), SECONDS, KINDS),
    SECONDS.map(lambda s: ("raise", s)),
    st.just(("hang",)),
    st.tuples(st.just("wrong"), SECONDS, WRONG),
)
SCRIPTS = st.lists(ACTS, min_size=1, max_size=6)
DECISIONS = st.one_of(
    st.just(("raise",)),
    st.tuples(
        st.just("place"),
        st.sampled_from(["local", "edge", "far", "cut", "nowhere"]),
        st.none() | st.floats(0, 0.2),
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    local=SCRIPTS, edge=SCRIPTS, far=SCRIPTS, cut=st.tuples(SCRIPTS, SCRIPTS),
    decisions=st.lists(DECISIONS, min_size=1, max_size=6),
    bad=st.sets(st.integers(0, 19)), gap_s=st.floats(0, 0.2), queue=st.integers(1, 6),
    stop=st.none() | st.integers(0, 19), drain_s=st.floats(0, 0.3), mode=st.sampled_from(["active", "shadow"]),
    broken=st.sets(st.sampled_from(["taker", "backup"])), backup=st.sampled_from(["edge", "cut"]),
    rest_ms=st.sampled_from([0.0, 100.0, 1e9]),
)  # fmt: skip
def test_every_frame_gives_one_result_and_one_record(
    local, edge, far, cut, decisions, bad, gap_s, queue, stop, drain_s, mode, broken, backup, rest_ms
):
    logging.disable(logging.CRITICAL)
    mind = FakeMind(decisions, backup="nowhere" if "backup" in broken else backup)
    mind.rest = rest_ms
    results = []

    def taker(result):
        results.append(result)
        if "taker" in broken:
            raise RuntimeError("a bug in the embedding program")

    engine, _, recorder, executors = play(
        mind, {"local": local, "edge": edge, "far": far}, {"cut": cut}, good=lambda i: i not in bad, gap_s=gap_s,
        queue=queue, stop_after=stop, drain_s=drain_s, mode=mode, on_result=taker,
    )  # fmt: skip
    logging.disable(logging.NOTSET)
    offered = 20 if stop is None else stop
    numbers = list(range(offered))
    assert sorted(r.frame.index for r in results) == numbers
    assert sorted(s.number for s in recorder.stories) == numbers
    assert sorted(mind.results) == numbers
    t = engine.totals
    assert (t.offered, t.delivered, t.recorded) == (offered, offered, offered)
    assert engine.in_flight == 0
    assert executors["local"].most <= 1
    assert executors["edge"].most + executors["far"].most <= 2 * LIMITS.in_flight
    assert executors["cut"].most <= LIMITS.in_flight
    _check_the_device(recorder.stories)
    for story in recorder.stories:
        assert sum(call.used for call in story.calls) == (story.latency_ms is not None)
        assert len(story.calls) <= 2
        if story.winner is not None:
            assert story.overhead_ms < 1e-6  # in virtual time everything but the calls takes none
        if story.frame.problem:
            assert story.calls == []
    if mode == "shadow":
        assert executors["edge"].calls == executors["far"].calls == executors["cut"].device.calls == 0
    # Every call that ended was told of, once.
    assert len(mind.ends) == len({id(c) for c in mind.ends}) == sum(len(s.calls) for s in recorder.stories)


def _check_the_device(stories):
    """It computes for one call at a time, of whole models or heads; calls that were abandoned let the next one in."""
    spans = []
    for call in (call for story in stories for call in story.calls):
        if call.began_s is not None and (call.split or call.placement == "local"):
            spans.append((call.began_s, call.ended_s if call.headed_s is None else call.headed_s))
        if call.split:
            assert call.sent_s is None or call.headed_s is not None
            assert call.answer is None or call.sent_s is not None
    spans.sort()
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_remote_frames_run_side_by_side_and_the_device_one_at_a_time():
    mind = FakeMind([("place", "edge", None), ("place", "local", None)])
    engine, _, _, executors = play(
        mind, {"local": [("answer", 0.3)], "edge": [("answer", 0.25)]}, gap_s=0.05, queue=99, limits=PATIENT
    )
    assert executors["local"].most == 1
    assert executors["edge"].most == 2  # in_flight
    assert engine.totals.answered == 20


def test_a_frame_that_finds_no_room_is_answered_at_once():
    mind = FakeMind([("place", "local", None)])
    engine, results, recorder, _ = play(mind, {"local": [("answer", 0.3)]}, gap_s=0.1, queue=2)
    reasons = Counter(r.reason for r in results)
    assert reasons["overload"] == engine.totals.overloaded > 5
    assert reasons["overload"] + reasons["policy"] == 20
    overloaded = [s for s in recorder.stories if s.reason == "overload"]
    assert all(s.calls == [] and s.latency_ms is None for s in overloaded)


def test_shadow_decides_and_executes_on_the_device():
    mind = FakeMind([("place", "edge", 0.01), ("place", "local", None)])
    _, results, recorder, executors = play(
        mind, {"local": LOCAL_OK, "edge": [("answer", 0.01)]}, frames=4, mode="shadow"
    )
    assert {r.placement for r in results} == {"local"}
    assert executors["edge"].calls == 0
    assert [s.fallback for s in recorder.stories] == ["shadow", None, "shadow", None]
    assert [s.judgement.placement for s in recorder.stories] == ["edge", "local"] * 2


def test_numbers_go_on_after_a_restart():
    mind = FakeMind([("place", "local", None)])
    _, _, recorder, _ = play(mind, {"local": LOCAL_OK}, frames=2, first_number=500)
    assert [s.number for s in recorder.stories] == [500, 501]


def test_stopping_answers_what_is_under_way():
    mind = FakeMind([("place", "edge", None)])
    limits = Limits(in_flight=4, remote_timeout_s=60, local_timeout_s=60, give_up_s=60)
    scripts = {"local": [("hang",)], "edge": [("hang",)]}
    engine, results, recorder, _ = play(mind, scripts, frames=4, limits=limits, drain_s=0.5)
    assert [r.placement for r in results] == [None] * 4
    assert {s.problem for s in recorder.stories} == {"the run was stopped before it was done"}
    assert engine.totals.recorded == 4
