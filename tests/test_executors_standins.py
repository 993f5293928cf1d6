"""Stand-ins and replay twins queue, fail and time out as real executors do."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import fields

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.schema import Placement
from carbonpilot.envs.schema_nodes import Service
from carbonpilot.real.executors.replay import ReplayExecutor, recorded_calls
from carbonpilot.real.executors.standin import StandInExecutor
from carbonpilot.real.executors.worker import Worker
from carbonpilot.real.interfaces import ExecutorError, Frame
from carbonpilot.real.log_records import Attempt, FrameRecord


def frame(index: int = 0) -> Frame:
    return Frame(index, f"f{index}", np.zeros((32, 64, 3), np.uint8), b"x" * 777, 0.0)


def placement(name: str = "local", node: str = "local", mean_ms: float = 5.0) -> Placement:
    return Placement(
        name=name,
        node=node,
        model="m",
        service=Service(distribution="deterministic", mean_ms=mean_ms),
        active_energy_j=1,
        accuracy_miou=50,
    )


def stand_in(parallelism: int = 1, **changes) -> StandInExecutor:
    return StandInExecutor(placement(**changes), seed=1, mask_size=(8, 16), parallelism=parallelism)


def test_a_stand_in_takes_its_service_time_and_answers_its_own_frame():
    async def go():
        executor = stand_in()
        await executor.start()
        answers = await asyncio.gather(*(executor.execute(frame(i), None) for i in range(3)))
        await executor.close()
        return answers

    answers = asyncio.run(go())
    assert [a.mask[0, 0] for a in answers] == [0, 1, 2]
    assert all(a.mask.shape == (8, 16) and a.mask.dtype == np.uint8 for a in answers)
    assert all(a.execute_ms >= 5 for a in answers)
    # One frame at a time: each waits for those before it.
    assert answers[1].queued_ms >= 4.9
    assert answers[2].queued_ms >= 9.8
    assert all(a.sent_bytes == 0 for a in answers)


def test_a_remote_stand_in_sends_the_frame():
    async def go():
        executor = stand_in(parallelism=3, name="edge", node="edge", mean_ms=1.0)
        answer = await executor.execute(frame(), None)
        await executor.close()
        return answer

    answer = asyncio.run(go())
    assert (answer.sent_bytes, answer.received_bytes) == (777, 8 * 16)


def test_a_stand_in_draws_the_scenarios_distribution():
    executor = StandInExecutor(
        placement().model_copy(
            update={"service": Service(distribution="lognormal", p50_ms=20.0, p95_ms=30.0)}
        ),
        seed=3,
        mask_size=(8, 16),
    )
    drawn = np.array([executor._random.choice(executor._service_s) for _ in range(20_000)])
    assert np.quantile(drawn, 0.5) == pytest.approx(0.020, rel=0.02)
    assert np.quantile(drawn, 0.95) == pytest.approx(0.030, rel=0.02)


def test_threads_work_beside_one_another():
    async def go():
        worker, meeting = Worker("w", 3), threading.Barrier(3, timeout=10)
        await asyncio.gather(*(worker.run(meeting.wait) for _ in range(3)))
        worker.close()

    asyncio.run(go())


def test_giving_up_a_waiting_frame_takes_it_out_of_the_queue():
    async def go():
        worker, gate, done = Worker("w"), threading.Event(), []
        first = asyncio.create_task(worker.run(lambda: done.append(gate.wait(10))))
        await asyncio.sleep(0)
        with pytest.raises(ExecutorError, match="still waiting for earlier frames") as late:
            await worker.run(lambda: done.append("late"), 0.01)
        cancelled = asyncio.create_task(worker.run(lambda: done.append("cancelled")))
        await asyncio.sleep(0)
        cancelled.cancel()
        last = asyncio.create_task(worker.run(lambda: done.append("last")))
        await asyncio.sleep(0.02)
        gate.set()
        _, queued_ms = (await asyncio.gather(first, last))[1]
        worker.close()
        return late.value, queued_ms, done

    late, queued_ms, done = asyncio.run(go())
    assert late.kind == "timeout"
    assert late.queued_ms >= 9.9
    assert queued_ms >= 19.9
    assert done == [True, "last"]


def test_what_has_begun_blocks_the_next_even_when_given_up():
    async def go():
        worker, gate, done = Worker("w"), threading.Event(), []
        with pytest.raises(ExecutorError, match="ms waiting its turn"):
            await worker.run(lambda: done.append(gate.wait(10)), 0.3)
        after = asyncio.create_task(worker.run(lambda: done.append("after")))
        await asyncio.sleep(0.02)
        before = list(done)
        gate.set()
        await after
        worker.close()
        return before, done

    assert asyncio.run(go()) == ([], [True, "after"])


def test_a_stand_in_fails_when_told_to():
    async def go():
        executor = stand_in(mean_ms=1.0)
        executor.failing = "model-error"
        with pytest.raises(ExecutorError, match="told to fail") as failed:
            await executor.execute(frame(), None)
        executor.failing = None
        await executor.execute(frame(), None)
        await executor.close()
        await executor.close()
        with pytest.raises(ExecutorError, match="closed"):
            await executor.execute(frame(), None)
        return failed.value

    assert asyncio.run(go()).kind == "model-error"


def test_a_frame_without_pixels_is_refused():
    bad = Frame(7, "x.png", None, None, 0.0, problem="not an image")
    executor = stand_in()
    with pytest.raises(ExecutorError, match=r"Frame 7 \(x.png\) has no pixels: not an image"):
        asyncio.run(executor.execute(bad, None))
    asyncio.run(executor.close())


def test_a_workers_threads_end_and_hold_no_result():
    async def go():
        worker = Worker("w", 2)
        assert (await worker.run(lambda: 5))[0] == 5
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        worker.close()

    asyncio.run(go())
    end_s = time.monotonic() + 5
    while any(t.name.startswith("w-") for t in threading.enumerate()) and time.monotonic() < end_s:
        time.sleep(0.01)
    assert not any(t.name.startswith("w-") for t in threading.enumerate())


def attempt(place: str, duration_ms: float, error: str | None = None, sent: int | None = None) -> Attempt:
    return Attempt(
        placement=place,
        started_ms=1000.0,
        ended_ms=1000.0 + duration_ms,
        error=error,
        used=error is None,
        prepare_ms=None if error else 1.0,
        execute_ms=None if error else duration_ms - 3.0,
        finish_ms=None if error else 0.5,
        sent_bytes=sent,
        received_bytes=None if error else 512,
        queued_ms=1.5,
    )


def record(number: int, *attempts: Attempt) -> FrameRecord:
    empty = dict.fromkeys((field.name for field in fields(FrameRecord)), None)
    return FrameRecord(**{**empty, "frame": number, "attempts": list(attempts), "payload_kb": 40.0})


LOG = [
    record(3, attempt("edge", 20.0, sent=30_000)),
    record(4, attempt("edge", 30.0, error="timeout"), attempt("local", 90.0)),
    record(5, attempt("local", 10.0)),
    record(6, attempt("edge", 5.0, error="cancelled"), attempt("local", 10.0)),
    record(8, attempt("edge", 1.0, error="unreachable")),
]


def replay(place: str, node: str) -> ReplayExecutor:
    return ReplayExecutor(placement(place, node), recorded_calls(LOG, place), (8, 16))


def test_a_replay_repeats_times_payloads_and_failures():
    async def go():
        executor = replay("edge", "edge")
        await executor.start()
        start_s = time.perf_counter()
        good = await executor.execute(frame(3), 1.0)
        took_s = time.perf_counter() - start_s
        errors = []
        for number in (4, 8):
            with pytest.raises(ExecutorError, match="as in the log") as failed:
                await executor.execute(frame(number), 1.0)
            errors.append((failed.value.kind, failed.value.queued_ms))
        return executor, good, took_s, errors

    executor, good, took_s, errors = asyncio.run(go())
    assert took_s >= 0.0199
    assert (good.prepare_ms, good.execute_ms, good.finish_ms, good.queued_ms) == (1.0, 17.0, 0.5, 1.5)
    assert (good.sent_bytes, good.received_bytes, good.notes) == (30_000, 512, ())
    assert errors == [("timeout", 1.5), ("unreachable", 1.5)]
    assert [executor.payload_bytes(frame(i)) for i in (3, 4, 5)] == [30_000, 40_000, 777]


def test_a_frame_that_was_not_executed_there_says_whose_record_it_got():
    async def go():
        executor = replay("local", "local")
        return [await executor.execute(frame(i), None) for i in (0, 7)], executor.payload_bytes(frame(5))

    (before, after), payload = asyncio.run(go())
    assert before.notes == ("as frame 4 of the log",)
    assert after.notes == ("as frame 6 of the log",)
    assert payload == 0


def test_a_call_that_was_given_up_says_nothing_of_how_it_would_have_ended():
    assert [call.frame for call in recorded_calls(LOG, "edge")] == [3, 4, 8]


def test_a_replay_respects_a_shorter_deadline():
    with pytest.raises(ExecutorError, match="within 5 ms; the recorded call took 20 ms") as late:
        asyncio.run(replay("edge", "edge").execute(frame(3), 0.005))
    assert late.value.kind == "timeout"


def test_nothing_to_replay_is_refused_at_the_start():
    with pytest.raises(InputError, match="Nothing to replay for north"):
        asyncio.run(replay("north", "north").start())
