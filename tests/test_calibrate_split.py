"""What calibrate asks of split models: energy of heads by a meter, tails that come to a server together."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import numpy as np
import pytest
from split_site import SPLIT_PLACE
from test_executors_split import frame

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import scenario_dict
from carbonpilot.real.calibrate.effort import Effort
from carbonpilot.real.calibrate.heads import tails_of
from carbonpilot.real.calibrate.ledger import Ledger
from carbonpilot.real.calibrate.power import head_key, measure_energy
from carbonpilot.real.calibrate.remote import RemoteCall, remote_calls
from carbonpilot.real.interfaces import Answer, ExecutorError, Head
from carbonpilot.real.meters.meter import Sample, Scope

EFFORT = Effort(
    probes=5, paired=5, fresh=3, upload_bytes=1000, upload_s=1.0, losses=1, segments=100, calls=12, alone=2,
    bursts=1, heat_s=0.0, idle_s=1.5, active_s=3.0, images=2, runtime=0,
)  # fmt: skip
IDLE_W, WHOLE_J, HEAD_J = 4.0, 0.5, 0.2
MASK = np.zeros((16, 32), np.uint8)


class Work:
    """An executor of a split model that counts what the device computed; ``failing`` heads fail."""

    def __init__(self, placement: str, joules: float) -> None:
        self.placement, self.provider, self.failing = placement, "counted", False
        self.joules, self.spent_j, self.computing, self.most = joules, 0.0, 0, 0

    async def start(self):
        pass

    async def close(self):
        pass

    def payload_bytes(self, frame):
        return 1000

    async def execute(self, frame, timeout_s):
        await asyncio.sleep(0.002)
        self.spent_j += self.joules
        return Answer(mask=MASK, prepare_ms=0.0, execute_ms=1.0, finish_ms=0.0, head_ms=1.5)

    async def head(self, frame, timeout_s):
        if self.failing:
            raise ExecutorError("model-error", "no head today")
        await asyncio.sleep(0.002)
        self.spent_j += self.joules
        return Head((("ACTIVATION", np.zeros((1, 4), np.float32)),), 0.0, 2.0)

    async def tail(self, frame, head, timeout_s):
        self.computing += 1
        self.most = max(self.most, self.computing)
        await asyncio.sleep(0.01)
        self.computing -= 1
        return Answer(mask=MASK, prepare_ms=0.1, execute_ms=10.0, finish_ms=0.1, head_ms=head.head_ms)


class Counter:
    """A meter that counts rest and work."""

    name, scope = "counter", Scope.DEVICE_MODULE

    def __init__(self, *work: Work) -> None:
        self._work = work

    def sample(self):
        now_s = time.monotonic()
        return Sample(now_s, energy_j=IDLE_W * now_s + sum(w.spent_j for w in self._work))

    def close(self):
        pass


def job(tiny, tiny_scenario):
    scenario = tiny_scenario(placements=[*tiny["placements"], SPLIT_PLACE])
    ledger = Ledger(scenario_dict(scenario), {})
    return SimpleNamespace(
        ledger=ledger, effort=EFFORT, tell=lambda what: None, frames=[frame(i) for i in range(4)]
    )


def test_a_heads_energy_is_measured_apart_from_the_whole_models(tiny, tiny_scenario):
    made, whole, split = job(tiny, tiny_scenario), Work("local", WHOLE_J), Work("edge-cut", HEAD_J)
    asyncio.run(measure_energy(made, Counter(whole, split), whole, {2: split}))
    numbers = made.ledger.numbers
    assert numbers["device.idle_power_w"].value == pytest.approx(IDLE_W, rel=0.02)
    assert numbers["placements.0.active_energy_j"].value == pytest.approx(WHOLE_J, rel=0.1)
    assert numbers[head_key(2)].value == pytest.approx(HEAD_J, rel=0.1)
    assert made.ledger.scenario["placements"][2]["split"]["active_energy_j"] == numbers[head_key(2)].value
    assert made.ledger.scenario["placements"][2]["active_energy_j"] == SPLIT_PLACE["active_energy_j"]


def test_heads_that_fail_are_told(tiny, tiny_scenario):
    made, whole, split = job(tiny, tiny_scenario), Work("local", WHOLE_J), Work("edge-cut", HEAD_J)
    split.failing = True
    with pytest.raises(InputError, match="The head of edge-cut fails: no head today"):
        asyncio.run(measure_energy(made, Counter(whole, split), whole, {2: split}))


def test_tails_come_together_though_heads_cannot():
    async def go():
        split = Work("edge-cut", HEAD_J)
        frames = [frame(i) for i in range(6)]
        together = await tails_of(split, frames)
        await asyncio.gather(*(together.execute(f, 1.0) for f in frames))
        whole = SimpleNamespace(placement="edge-b0")
        assert await tails_of(whole, frames) is whole
        return split.most

    assert asyncio.run(go()) == 6


def test_what_a_call_takes_before_it_is_sent_is_the_heads():
    """20 ms of head, 10 of tail, 0.2 of encoding: whatever else passes on the device before sending is the head's."""

    class Slow(Work):
        async def execute(self, frame, timeout_s):
            await asyncio.sleep(0.02)
            head = await self.head(frame, timeout_s)
            start_s = time.perf_counter()
            await asyncio.sleep(0.01)
            took_ms = (time.perf_counter() - start_s) * 1000
            return Answer(
                mask=MASK,
                prepare_ms=0.1,
                execute_ms=took_ms,
                finish_ms=0.1,
                head_ms=head.head_ms,
                sent_bytes=16,
            )

    calls = [0]

    async def counters(model):
        calls[0] += 1
        return SimpleNamespace(
            calls=calls[0], since=lambda before: SimpleNamespace(calls=1, total_ms=8.0, batches={})
        )

    questions = SimpleNamespace(counters=counters)
    found, shared = asyncio.run(
        remote_calls(Slow("edge-cut", 0.1), questions, "tail", [frame()], 0.0, EFFORT)
    )
    assert shared == 0
    for call in found:
        assert isinstance(call, RemoteCall)
        assert call.head_ms >= 21
        assert call.head_ms + 10.2 <= call.wall_ms + 1e-6
        assert call.server_ms == 8.0
