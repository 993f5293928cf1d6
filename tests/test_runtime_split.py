"""Split models in a run with stand-ins: nodes and heads that fail and come back."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from runtime_fixture import QUICK, Lab, options, quick_site
from split_site import SPLIT_PLACE

from carbonpilot.real.log_records import EventRecord, read_log

BELIEVED = {"distribution": "lognormal", "p50_ms": 40, "p95_ms": 100}


class SplitLab(Lab):
    """The device is believed to take up to 100 ms and takes 30; frames come every 60 ms."""

    async def __aenter__(self):
        await super().__aenter__()
        self.executor("local")._service_s = [0.03]
        return self

    async def play(self, count, gap_s=0.06, **options):
        await super().play(count, gap_s, **options)


@pytest.fixture
def lab(tmp_path, tiny):
    local, edge = QUICK["placements"]
    head = {**SPLIT_PLACE["split"], "service": {"distribution": "deterministic", "mean_ms": 10}}
    quick = {**SPLIT_PLACE, "service": {"distribution": "deterministic", "mean_ms": 5}, "split": head}
    remote = {"edge-cut": {"model": "t", "encoding": "activation", "segments": "segments", "cut": "cut-004"}}

    def make(**changes):
        where = quick_site(
            tmp_path,
            tiny,
            slo={"latency_ms": 500, "quantile": 0.95},
            placements=[{**local, "service": BELIEVED}, edge, quick],
            deployment={"remote": remote},
        )
        return SplitLab(options(where, tmp_path / "log", **{"policy": "always-edge-cut", **changes}))

    return make


def test_a_run_with_a_split_placement(lab):
    lab = lab()

    async def go():
        async with lab:
            await lab.play(20)

    asyncio.run(go())
    records = lab.check_counts(20)
    assert {r.executed for r in records} == {"edge-cut"}
    heads_ms, between_ms = [], []  # turns, packing, the loop: more where the machine has other things to do
    for record in records:
        (call,) = record.attempts
        heads_ms.append(call.head_ms)
        assert call.sent_bytes == 12_500
        parts = (call.head_queued_ms, call.head_ms, call.queued_ms, call.execute_ms)
        between_ms.append(record.latency_ms - sum(parts))
        assert record.compute_energy_j == pytest.approx(0.4)
        assert record.network_energy_j == pytest.approx(12_500 * 8 * 10e-9)
        assert record.payload_kb > 12.5  # the frame's own
    assert 9 < min(heads_ms) <= sorted(heads_ms)[len(heads_ms) // 2] < 60
    assert min(between_ms) > -1
    assert sorted(between_ms)[len(between_ms) // 2] < 15


def test_the_node_fails_and_comes_back(lab):
    lab = lab()

    async def go():
        async with lab:
            await lab.play(5)
            lab.executor("edge-cut").failing = "unreachable"
            await lab.play(15)
            assert lab.run.mind.breakers()["edge"] == "open"
            lab.executor("edge-cut").failing = None
            await asyncio.sleep(2.1)
            await lab.play(10)

    asyncio.run(go())
    records = lab.check_counts(30)
    assert {r.executed for r in records[5:20]} == {"local"}
    heads = sum(a.head_ms > 0 for r in records[5:20] for a in r.attempts)
    assert heads < 8, "the device does not compute heads for a node that rests"
    assert records[19].mask == [1, 0, 0]
    assert {r.executed for r in records[-5:]} == {"edge-cut"}


def test_heads_that_fail_leave_the_node_to_whole_frames(lab):
    lab = lab()

    async def go():
        async with lab:
            lab.executor("edge-cut").head_failing = "model-error"
            await lab.play(15)
            await asyncio.sleep(1.1)  # the next look at the world

    asyncio.run(go())
    records = lab.check_counts(15)
    assert {r.executed for r in records} == {"local"}
    assert records[-1].mask == [1, 1, 0]
    assert all(a.sent_bytes is None for r in records for a in r.attempts if a.placement == "edge-cut")
    assert sum(r.network_energy_j for r in records) == 0.0
    events = [r for r in read_log(lab.run.options.log) if isinstance(r, EventRecord)]
    assert ("open", "breaker head of edge-cut") in [(e.event, e.subject) for e in events]


def test_a_node_that_freezes_between_head_and_answer(lab):
    lab = lab(fallback="always")

    async def go():
        async with lab:
            await lab.play(3)
            lab.executor("edge-cut")._service_s = [30.0]
            await lab.play(15, gap_s=0.1)
            await asyncio.sleep(1.2)

    asyncio.run(go())
    records = lab.check_counts(18)
    assert {r.executed for r in records[3:]} == {"local"}
    assert {r.fallback for r in records[3:]} >= {"deadline"}
    assert records[-1].placement == "local"


def test_shadow_mode_computes_no_head(lab):
    lab = lab(mode="shadow")

    async def go():
        async with lab:
            await lab.play(5)

    asyncio.run(go())
    records = lab.check_counts(5)
    assert {(r.placement, r.executed) for r in records} == {("edge-cut", "local")}
    assert {a.placement for r in records for a in r.attempts} == {"local"}


def test_what_the_observer_believes_of_the_device_follows_heads(lab):
    """A head under way is backlog of the device; when it is done nothing is left."""
    lab = lab()

    async def go():
        async with lab:
            observer = lab.run.mind._observer
            lab.executor("edge-cut")._head_s, lab.executor("edge-cut")._service_s = [0.2], [0.2]
            playing = asyncio.create_task(lab.play(1, gap_s=0.0))
            await asyncio.sleep(0.1)
            during = observer._episode.device_free_ms
            await asyncio.sleep(0.2)  # the tail is away
            after = observer._episode.device_free_ms
            await playing
            return during, after

    during, after = asyncio.run(go())
    assert np.isinf(during)
    assert after < 1e6
