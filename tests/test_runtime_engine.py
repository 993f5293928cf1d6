"""The engine: one result and one record for each frame, whatever the executors, the policy and the stop do."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbonpilot.real.interfaces import Answer, ExecutorError, Frame, Head
from carbonpilot.real.runtime.engine import Engine
from carbonpilot.real.runtime.race import Limits
from carbonpilot.real.runtime.story import Judgement

PIXELS = np.zeros((32, 32, 3), np.uint8)
MASK = np.ones((8, 8), np.uint8)
LIMITS = Limits(in_flight=2, remote_timeout_s=0.3, local_timeout_s=1.0, give_up_s=2.0)
PATIENT = Limits(in_flight=2, remote_timeout_s=9, local_timeout_s=9, give_up_s=9)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once when there is nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now_s = max(self.now_s, self._scheduled[0]._when)
        super()._run_once()


class LoopClock:
    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc)


def answer(mask=MASK, **changes):
    return Answer(mask=mask, prepare_ms=1.0, execute_ms=2.0, finish_ms=0.5, **changes)


class Scripted:
    """Does what a script says for each frame.

    ("answer", s), ("fail", s, kind), ("raise", s), ("hang",), ("wrong", s, what).
    """

    def __init__(self, placement: str, script) -> None:
        self.placement, self.provider, self.script = placement, "scripted", script
        self.running = self.most = self.calls = 0
        self.cancelled = 0

    def payload_bytes(self, frame: Frame) -> int:
        return 0 if self.placement == "local" else 1000

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            what, *rest = self.script[frame.index % len(self.script)]
            if what == "hang":
                await asyncio.sleep(timeout_s)
                raise ExecutorError("timeout", "no answer in time")
            await asyncio.sleep(rest[0])
            if what == "fail":
                raise ExecutorError(rest[1], "failed")
            if what == "raise":
                raise RuntimeError("a bug in an executor")
            if what == "wrong":
                return rest[1]
            return answer()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


class ScriptedSplit(Scripted):
    """A split model: ``heads`` is a script of the same kind for the device's part."""

    def __init__(self, placement: str, script, heads) -> None:
        super().__init__(placement, script)
        self.device = Scripted("local", heads)

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def head(self, frame: Frame, timeout_s: float | None) -> Head:
        answered = await self.device.execute(frame, timeout_s)
        if not isinstance(answered, Answer) or not isinstance(answered.mask, np.ndarray):
            raise TypeError("a bug in an executor")
        return Head((), 0.0, 5.0)

    async def tail(self, frame: Frame, head: Head, timeout_s: float | None) -> Answer:
        return await super().execute(frame, timeout_s)

    async def execute(self, frame: Frame, timeout_s: float | None) -> Answer:
        raise AssertionError("the engine shares the device, so it asks for the parts")


class FakeMind:
    """Decides by a script: ("place", placement, fallback_after_s or None) or ("raise",)."""

    def __init__(self, script, backup="edge") -> None:
        self.script, self.chosen_backup = script, backup
        self.began, self.ends, self.results = [], [], []
        self.headed_calls, self.sent_calls, self.rest = [], [], 0.0

    def judge(self, story):
        what, *rest = self.script[story.frame.index % len(self.script)]
        if what == "raise":
            raise ValueError("a bug in the policy")
        placement, after_s = rest
        at_s = None if after_s is None else story.issued_s + after_s
        return Judgement(np.zeros(3, np.float32), (1, 1, 1), placement, placement, "policy", at_s)

    def backup(self, judgement):
        return self.chosen_backup

    def placed(self, story, call):
        self.began.append(call)

    def beaten(self, story, call):
        pass

    def headed(self, story, call):
        self.headed_calls.append(call)

    def sending(self, story, call):
        self.sent_calls.append(call)

    def rest_ms(self, story, call):
        return self.rest

    def ended(self, story, call):
        assert call.ended_s is not None
        assert (call.answer is None) == (call.error is not None) or call.error == "cancelled"
        self.ends.append(call)

    def answered(self, story):
        self.results.append(story.number)


class Stories:
    """A recorder that keeps the stories."""

    def __init__(self) -> None:
        self.stories = []

    def record(self, story):
        assert all(call.ended_s is not None for call in story.calls)
        assert story.delivered
        self.stories.append(story)


def frame(index: int, good: bool = True) -> Frame:
    if good:
        return Frame(index, f"{index}.jpg", PIXELS, None, 0.0)
    return Frame(index, f"{index}.jpg", None, None, 0.0, problem="not an image")


def play(
    mind,
    scripts,
    splits=None,
    frames=20,
    gap_s=0.1,
    good=lambda i: True,
    stop_after=None,
    drain_s=5.0,
    rest_s=0.0,
    **options,
):
    """Offer frames at a rate in virtual time; returns the engine, the results, the recorder and the executors.

    ``splits`` has scripts of tail and head.
    """
    executors = {name: Scripted(name, script) for name, script in scripts.items()}
    executors |= {name: ScriptedSplit(name, *both) for name, both in (splits or {}).items()}
    recorder, results = Stories(), []

    async def run():
        engine = Engine(
            executors, mind, recorder, LoopClock(), mode=options.pop("mode", "active"),
            limits=options.pop("limits", LIMITS), queue=options.pop("queue", 6),
            on_result=options.pop("on_result", results.append), **options,
        )  # fmt: skip
        for i in range(frames):
            if stop_after == i:
                break
            engine.offer(frame(i, good(i)))
            await asyncio.sleep(gap_s)
        await asyncio.sleep(rest_s)
        await engine.drain(drain_s)
        leftover = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert leftover == []
        return engine

    with asyncio.Runner(loop_factory=VirtualLoop) if hasattr(asyncio, "Runner") else _Runner() as runner:
        engine = runner.run(run())
    return engine, results, recorder, executors


class _Runner:  # Python 3.10
    def __enter__(self):
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        return self

    def run(self, main):
        return self.loop.run_until_complete(main)

    def __exit__(self, *_):
        asyncio.set_event_loop(None)
        self.loop.close()


LOCAL_OK = [("answer", 0.06)]
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
