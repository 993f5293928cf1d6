"""Split models in the field with the real Triton server: killed between head and tail, stopped, back again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from runtime_fixture import QUICK, Lab, options, write_site
from split_model import SIZE, SplitServer, running
from split_site import SPLIT_PLACE
from test_runtime_split import BELIEVED

from carbonpilot.envs.scenario import merge
from carbonpilot.real.executors.make import make_executors
from carbonpilot.real.runtime.late_executor import late
from carbonpilot.real.runtime.site_parts import site_probes


@pytest.fixture(scope="module")
def served(triton_environment, tmp_path_factory):
    with running(triton_environment, tmp_path_factory.mktemp("chaos"), wires=("float16",)) as made:
        yield made


@pytest.fixture
def server(served):
    yield served
    served.server.thaw()
    if not served.server.ready(3.0):
        served.server.restart()


class SplitTritonLab(Lab):
    """Head and tail are real, whole frames are the device's and the server's stand-ins."""

    def __init__(self, folder: Path, tiny, served: SplitServer, **changes) -> None:
        segment = served.manifests["float16"].segments[0]
        local, edge = QUICK["placements"]
        split = SPLIT_PLACE["split"] | {"cut": segment.cut, "activation_kb": segment.wire_bytes / 1000}
        believed = {"distribution": "lognormal", "p50_ms": 10, "p95_ms": 20}
        place = {**SPLIT_PLACE, "service": believed, "split": {**split, "service": believed}}
        scenario = merge(
            merge(tiny, QUICK),
            {
                # Room for a busy test machine, and a link that is believed to be as near as loopback is.
                "slo": {"latency_ms": 600, "quantile": 0.95},
                "placements": [{**local, "service": BELIEVED}, edge, place],
                "nodes": {"edge": {"background": None}},
            },
        )
        host, port = served.server.grpc.split(":")
        tail = {"model": f"{segment.triton_model}-float16", "encoding": "activation", "cut": segment.cut}
        deployment = {
            "frame": SIZE.model_dump(),
            "local": served.local.model_dump(exclude_none=True) | {"file": str(served.folder / "model.onnx")},
            "remote": {"edge-cut": {**tail, "segments": str(served.folder / "float16")}},
            "servers": {"edge": {"grpc": served.server.grpc}},
            "probes": {"uplink": {"host": host, "port": int(port), "method": "connect"}},
        }
        wanted = {"policy": "always-edge-cut", "queue": 60, **changes}
        super().__init__(options(write_site(folder, scenario, deployment), folder / "log", **wanted))
        checked = self.run.checked
        made = make_executors(checked.site, folder)["edge-cut"]
        checked.executors["edge-cut"] = late(made) if changes.get("start_without_servers") else made
        checked.probes = site_probes(checked.site, self.clock)

    async def __aenter__(self):
        await super().__aenter__()
        self.executor("local")._service_s = [0.03]
        if not self.run.options.start_without_servers:
            await self.until(lambda: self.run.mind._observer.unknown == ())
        return self

    async def until(self, condition, limit_s: float = 20.0) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            await asyncio.sleep(0.05)

    async def play(self, count: int, gap_s: float = 0.06, **options) -> None:
        await super().play(count, gap_s, **options)


def executed(records) -> set[str | None]:
    return {r.executed for r in records}


def test_a_server_killed_under_a_run_of_split_frames(tmp_path, tiny, server):
    lab = SplitTritonLab(tmp_path, tiny, server)

    async def go():
        async with lab:
            await lab.play(10)
            await asyncio.to_thread(server.server.kill)
            await lab.play(20)
            await asyncio.to_thread(server.server.start)
            await lab.until(lambda: lab.run.mind.breakers()["edge"] != "open", 40)
            for _ in range(20):
                await lab.play(10)
                if any(r.answer is not None and r.placement == "edge-cut" for r in lab.results[30:]):
                    break
                await asyncio.sleep(1.0)

    asyncio.run(go())
    records = lab.check_counts(lab._next)
    assert all(r.executed is not None for r in records)
    assert executed(records[:10]) == {"edge-cut"}
    assert executed(records[14:30]) == {"local"}
    assert "edge-cut" in executed(records[30:])
    failed = [a for r in records for a in r.attempts if a.error is not None]
    assert {a.error for a in failed} <= {"unreachable", "timeout", "cancelled"}
    assert any(a.head_ms > 0 for a in failed), "its head was computed, and the server was gone"
    assert lab.run.mind.breakers()["head of edge-cut"] == "closed"
    # What was computed on the device is charged, whatever became of it.
    for record in records:
        heads = sum(a.head_ms > 0 for a in record.attempts)
        wholes = sum(a.placement == "local" for a in record.attempts)
        assert record.compute_energy_j == pytest.approx(0.4 * heads + 1.0 * wholes)


def test_a_node_that_is_not_there_at_the_start(tmp_path, tiny, server):
    """No head is computed for a server that has not answered yet; once it is there, split frames go."""
    server.server.kill()
    lab = SplitTritonLab(tmp_path, tiny, server, start_without_servers=True)

    async def go():
        async with lab:
            late = lab.run.checked.executors["edge-cut"]
            late._retry_s = 0.2
            await lab.play(15)
            await asyncio.to_thread(server.server.start)
            await lab.until(lambda: late._up, 30)
            await lab.until(lambda: lab.run.mind.breakers()["edge"] != "open", 40)
            for _ in range(20):
                await lab.play(5)
                if any(r.placement == "edge-cut" for r in lab.results[15:]):
                    break
                await asyncio.sleep(1.0)

    asyncio.run(go())
    records = lab.check_counts(lab._next)
    assert executed(records[:15]) == {"local"}
    before = [a for r in records[:15] for a in r.attempts if a.placement == "edge-cut"]
    assert {a.error for a in before} <= {"unreachable"}  # mostly the silent probe keeps frames away
    assert all(a.head_ms < 5 for a in before), "nothing was computed"
    assert sum(r.network_energy_j for r in records[:15]) == 0.0
    assert "edge-cut" in executed(records[15:])


def test_a_frozen_server_is_replaced_by_the_device_in_time(tmp_path, tiny, server):
    lab = SplitTritonLab(tmp_path, tiny, server, fallback="always")

    async def go():
        async with lab:
            await lab.play(5)
            server.server.freeze()
            await lab.play(15, gap_s=0.1)
            await asyncio.sleep(1.3)
            server.server.thaw()

    asyncio.run(go())
    records = lab.check_counts(20)
    assert executed(records[7:]) == {"local"}
    hedged = [r for r in records if r.fallback == "deadline"]
    assert hedged
    for record in hedged:
        split, local = record.attempts
        assert split.head_ms > 0  # it was sent, and nothing came back
        assert local.started_ms - record.issued_ms < 600, (
            "begun before the objective, not after the call's limit"
        )
    assert records[-1].placement == "local"
