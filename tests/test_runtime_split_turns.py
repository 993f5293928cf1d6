"""Split models on the device, in virtual time: whose turn it is, late heads, failures, the deadline."""

from __future__ import annotations

import asyncio

import pytest
from engine_fixture import LIMITS, LOCAL_OK, FakeMind, play

from carbonpilot.real.interfaces import Frame, Head, HeadAndTail
from carbonpilot.real.runtime.frame_record import _attempt
from carbonpilot.real.runtime.late_executor import late

HEAD_OK, TAIL_OK = [("answer", 0.06)], [("answer", 0.1)]


def cut(fallback_s=None, tail=TAIL_OK, head=HEAD_OK, local=LOCAL_OK, rest_s=0.0, mind=None, **options):
    """Frames that go to a split model; returns results, stories and the executor."""
    mind = mind or FakeMind([("place", "cut", fallback_s)])
    mind.rest = rest_s * 1000
    _, results, recorder, executors = play(mind, {"local": local}, {"cut": (tail, head)}, rest_s=2, **options)
    return results, sorted(recorder.stories, key=lambda s: s.number), executors["cut"]


def test_the_next_head_begins_while_the_last_tail_is_away():
    results, stories, _ = cut(frames=3, gap_s=0.0)
    assert [round(r.latency_ms) for r in results] == [160, 220, 280]
    third = stories[2].calls[0]
    assert (third.head_queued_ms, third.queued_ms) == (pytest.approx(120), 0.0)
    assert third.head_ms == pytest.approx(60)


def test_the_terms_of_a_call_add_up_in_its_line():
    tail = [("answer", 0.25)]
    _, stories, _ = cut(
        frames=4, gap_s=0.0, tail=tail
    )  # two at a time, so later ones wait between head and tail
    for story in stories:
        line = _attempt(story.calls[0], 1000.0)
        terms = line.head_queued_ms + line.head_ms + line.queued_ms + 250
        assert line.ended_ms - line.started_ms == pytest.approx(terms)
    assert _attempt(stories[3].calls[0], 1000.0).queued_ms == pytest.approx(130)


def test_local_frames_and_heads_share_the_device():
    mind = FakeMind([("place", "local", None), ("place", "cut", None)])
    results, _, executor = cut(mind=mind, frames=4, gap_s=0.0)
    assert executor.device.most == 1
    assert [round(r.latency_ms) for r in sorted(results, key=lambda r: r.number)] == [60, 220, 180, 340]


def test_a_split_model_may_be_the_last_resort_of_a_device_that_fails():
    mind = FakeMind([("place", "local", None)], backup="cut")
    results, _, _ = cut(mind=mind, local=[("fail", 0.01, "model-error")], frames=1)
    assert (results[0].placement, round(results[0].latency_ms)) == ("cut", 170)


def test_a_head_that_loses_the_race_uploads_nothing():
    """The hedge on the device is queued behind the head; here it wins because the head hangs on."""
    results, stories, executor = cut(fallback_s=0.0, head=[("answer", 0.2)], frames=1, gap_s=0.0)
    split, local = stories[0].calls
    assert (split.placement, local.placement) == ("cut", "local")
    assert local.began_s == split.headed_s  # the device is the head's until it is done
    assert results[0].placement == "local"
    assert executor.calls == 1  # the tail was sent while the device had no answer yet
    results, stories, executor = cut(
        fallback_s=0.0, head=[("answer", 0.2)], frames=1, rest_s=0.15, limits=LIMITS
    )
    split = stories[0].calls[0]
    assert (split.error, split.at_head, split.sent_s) == ("timeout", True, None)
    assert "the rest is believed to take 150 ms; nothing was sent" in split.said
    assert executor.calls == 0
    assert results[0].placement == "local"


def test_a_head_that_has_not_begun_leaves_the_device_to_the_frame_itself():
    """Frame 1 waits for the device when its own attempt there is due: its head would only make that later."""
    mind = FakeMind([("place", "local", None), ("place", "cut", 0.05)])
    results, stories, executor = cut(mind=mind, frames=2, gap_s=0.0, local=[("answer", 0.1)])
    assert [(r.placement, round(r.latency_ms)) for r in results] == [("local", 100), ("local", 200)]
    split = stories[1].calls[0]
    assert (split.error, split.began_s, stories[1].fallback) == ("cancelled", None, "deadline")
    assert executor.device.calls == executor.calls == 0


@pytest.mark.parametrize("kind", ["model-error", "wrong-answer"])
def test_a_head_that_fails_is_replaced_at_once_and_nothing_is_sent(kind):
    results, stories, executor = cut(head=[("fail", 0.02, kind)], frames=1)
    assert (results[0].placement, round(results[0].latency_ms)) == ("local", 80)
    split = stories[0].calls[0]
    assert (split.error, split.at_head, stories[0].fallback) == (kind, True, kind)
    assert executor.calls == 0


def test_a_tail_that_fails_is_the_nodes():
    results, stories, _ = cut(tail=[("fail", 0.02, "unreachable")], frames=1)
    assert (results[0].placement, round(results[0].latency_ms)) == ("local", 140)
    split = stories[0].calls[0]
    assert (split.error, split.at_head) == ("unreachable", False)


def test_what_is_left_of_the_deadline_is_the_tails():
    """The call ends at its limit, however long the head took."""
    _, stories, _ = cut(tail=[("hang",)], head=[("answer", 0.25)], frames=1, limits=LIMITS)
    split = stories[0].calls[0]
    assert split.error == "timeout"
    assert split.ended_s - split.began_s == pytest.approx(LIMITS.remote_timeout_s)


def test_learners_hear_of_head_and_sending_in_this_order():
    mind = FakeMind([("place", "cut", None)])
    cut(mind=mind, frames=3)
    assert mind.headed_calls == mind.sent_calls == mind.ends
    failing = FakeMind([("place", "cut", None)])
    cut(mind=failing, head=[("fail", 0.01, "model-error")], frames=1)
    assert failing.headed_calls == failing.sent_calls == []


# A server that comes late.


def test_without_its_server_the_device_computes_no_head():
    async def go():
        started = []

        class Split:
            placement, provider = "cut", "x"

            async def start(self):
                from carbonpilot.real.executors.triton_checks import UnreachableServerError

                raise UnreachableServerError("nobody there")

            def payload_bytes(self, frame):
                return 7

            async def execute(self, frame, timeout_s):
                raise AssertionError

            async def head(self, frame, timeout_s):
                started.append(frame)
                return Head((), 0.0, 1.0)

            async def tail(self, frame, head, timeout_s):
                raise AssertionError

            async def close(self):
                pass

        executor = late(Split())
        assert isinstance(executor, HeadAndTail)
        await executor.start()
        with pytest.raises(Exception, match="has not answered since the start"):
            await executor.head(Frame(0, "x", None, None, 0.0), 1.0)
        await executor.close()
        return started

    assert asyncio.run(go()) == []
