"""The engine in virtual time, with scripted executors, a scripted policy and a recorder that keeps the stories."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

import numpy as np

from carbonpilot.real.interfaces import Answer, ExecutorError, Frame, Head
from carbonpilot.real.runtime.engine import Engine
from carbonpilot.real.runtime.race import Limits
from carbonpilot.real.runtime.story import Judgement

PIXELS = np.zeros((32, 32, 3), np.uint8)
MASK = np.ones((8, 8), np.uint8)
LIMITS = Limits(in_flight=2, remote_timeout_s=0.3, local_timeout_s=1.0, give_up_s=2.0)
LOCAL_OK = [("answer", 0.06)]


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
