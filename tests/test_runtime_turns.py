"""Who computes next on the device: frames that are in time before those that have missed already."""

from __future__ import annotations

import asyncio

import pytest
from engine_fixture import FakeMind, play

from carbonpilot.real.runtime.calls import DeviceTurns
from carbonpilot.real.runtime.race import Limits


async def hold(turns: DeviceTurns, name: str, order: list[str], patience_s: float | None = None) -> None:
    async with turns.take(patience_s):
        order.append(name)
        await asyncio.sleep(0.02)


def ordered(*calls: tuple[str, float | None], cancelled: str = "") -> list[str]:
    """The order in which calls get their turns that all came while another held it."""

    async def go() -> list[str]:
        turns, order = DeviceTurns(), []
        tasks = {
            name: asyncio.create_task(hold(turns, name, order, p)) for name, p in (("first", None), *calls)
        }
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if cancelled:
            tasks[cancelled].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        async with turns.take():  # and nothing of it is left
            return order

    return asyncio.run(go())


def test_late_calls_come_last_and_in_their_order():
    calls = (("late", 9.0), ("later", 9.0), ("a", None), ("b", None))
    assert ordered(*calls) == ["first", "a", "b", "late", "later"]


def test_patience_ends():
    assert ordered(("late", 0.005), ("a", None), ("b", None)) == ["first", "a", "b", "late"]
    assert ordered(("late", 0.0), *((name, None) for name in "abcdef"))[-1] == "late"
    order = ordered(("late", 9.0), ("less", 0.03), *((name, None) for name in "abcdef"))
    assert order.index("less") < order.index("late")


@pytest.mark.parametrize("cancelled", ["a", "late", "first"])
def test_who_gives_up_is_passed_over(cancelled):
    order = ordered(("late", 9.0), ("a", None), ("b", None), cancelled=cancelled)
    left = [name for name in ("first", "a", "b", "late") if name != cancelled or name == "first"]
    assert order == left


@pytest.mark.parametrize(("late_s", "in_time"), [(0.25, True), (9.0, False)])
def test_frames_that_a_broken_link_has_made_late_do_not_make_the_next_ones_late(late_s, in_time):
    """Four frames fail at the same moment and come to the device; those after them went there at once."""
    fails = [("fail", 0.6 - 0.1 * i, "unreachable") for i in range(4)]
    mind = FakeMind([("place", "edge", None)] * 4 + [("place", "local", None)] * 16, backup="local")
    limits = Limits(in_flight=4, remote_timeout_s=9.0, local_timeout_s=9.0, give_up_s=4.0, late_s=late_s)
    scripts = {"local": [("answer", 0.07)], "edge": [*fails, *[("answer", 0.01)] * 16]}
    _, results, recorder, _ = play(mind, scripts, limits=limits, queue=20)
    assert sorted(r.number for r in results) == list(range(20))
    assert all(r.answer is not None for r in results), "the late ones have their results too"
    latest_ms = max(r.latency_ms for r in results if r.number >= 4)
    assert (latest_ms <= 250.0) == in_time, latest_ms
    assert len(mind.began) == 24
    for story in (s for s in recorder.stories if s.number < 4):
        assert [call.placement for call in story.calls] == ["edge", "local"]
