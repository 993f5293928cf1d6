"""What happens in the field, with the real Triton server and, in namespaces, a real link under real TCP.

Frames in = results out = log lines each time, and the objective kept by the device where the server does not answer. As
in test_runtime_chaos.py the objective leaves room for a busy test machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runtime_fixture import QUICK, Lab, options, write_site

from carbonpilot.envs.scenario import merge
from carbonpilot.real.executors.make import make_executors
from carbonpilot.real.frames.jpeg import encode_jpeg
from carbonpilot.real.interfaces import Frame
from carbonpilot.real.log_records import FrameRecord, read_log
from carbonpilot.real.runtime.site_parts import site_probes
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.tenants import Tenants, for_load

LOCAL, EDGE = QUICK["placements"]
BELIEVED = {"distribution": "lognormal", "p50_ms": 40, "p95_ms": 120}  # of a device that takes 30 ms
HEIGHT, WIDTH, QUALITY = 256, 512, 80
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
JPEG = encode_jpeg(PIXELS, QUALITY)


def scenario(tiny, slo_ms=600, server_ms=20):
    """The tiny site with an objective that leaves room, and tenants on the server."""
    edge = {**EDGE, "service": {"distribution": "lognormal", "p50_ms": server_ms, "p95_ms": 2 * server_ms}}
    changes = {
        "slo": {"latency_ms": slo_ms, "quantile": 0.95},
        "placements": [{**LOCAL, "service": BELIEVED}, edge],
    }
    return merge(merge(tiny, QUICK), changes)


class TritonLab(Lab):
    """A run whose device is a stand-in and whose server is the real one on loopback."""

    def __init__(self, folder: Path, tiny, server, model: str = "segformer-b0-jpeg", **changes) -> None:
        host, port = server.grpc.split(":")
        place = {
            "frame": {"height": HEIGHT, "width": WIDTH},
            "remote": {"edge-b0": {"model": model, "encoding": "jpeg", "jpeg_quality": QUALITY}},
            "servers": {"edge": {"grpc": server.grpc, "metrics": server.metrics}},
            "probes": {"uplink": {"host": host, "port": int(port), "method": "connect"}},
        }
        # The objective is long, so many frames are under way while it runs out.
        super().__init__(
            options(write_site(folder, scenario(tiny), place), folder / "log", queue=40, **changes)
        )
        checked = self.run.checked
        checked.executors["edge-b0"] = make_executors(checked.site, folder)["edge-b0"]
        checked.probes = site_probes(checked.site, self.clock)

    async def __aenter__(self):
        await super().__aenter__()
        self.executor("local")._service_s = [0.03]
        await self.until(lambda: self.run.world.seen.surroundings.loads.get("edge") is not None)
        return self

    async def until(self, condition, limit_s: float = 20.0) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            await asyncio.sleep(0.05)

    async def play(self, count: int, gap_s: float = 0.06, bad=lambda i: False) -> None:
        for _ in range(count):
            self.run.engine.offer(Frame(self._next, f"{self._next}.jpg", PIXELS, JPEG, 0.0))
            self._next += 1
            await asyncio.sleep(gap_s)
        await self.run.engine.idle()


def kept(records: list[FrameRecord]) -> bool:
    """Whether 95 % of the frames were in time, which is the objective of these sites."""
    return sum(r.missed for r in records) <= 0.05 * len(records)


def executed(records: list[FrameRecord]) -> set[str | None]:
    return {r.executed for r in records}


@pytest.fixture
def server(triton_loopback):
    yield triton_loopback
    triton_loopback.thaw()
    triton_loopback.repository.fault()
    if not triton_loopback.ready(3.0):
        triton_loopback.restart()


def test_a_server_that_is_killed_and_restarted(tmp_path, tiny, server):
    lab = TritonLab(tmp_path, tiny, server)

    async def go():
        async with lab:
            await lab.play(10)
            server.kill()
            await lab.play(20)
            await asyncio.to_thread(server.start)
            await lab.until(lambda: lab.run.mind.breakers()["edge"] != "open", 40)
            # A trial that a busy machine lets fail is followed by another one after a longer rest.
            for _ in range(20):
                await lab.play(10)
                if any(r.answer is not None and r.placement == "edge-b0" for r in lab.results[30:]):
                    break
                await asyncio.sleep(1.0)

    asyncio.run(go())
    records = lab.check_counts(lab._next)
    assert kept(records)
    assert "edge-b0" in executed(records[:10])
    assert executed(records[12:30]) == {"local"}
    assert {a.error for r in records for a in r.attempts if a.error} <= {
        "unreachable",
        "timeout",
        "cancelled",
    }
    assert "edge-b0" in executed(records[30:])


def test_a_server_that_is_frozen(tmp_path, tiny, server):
    lab = TritonLab(tmp_path, tiny, server)

    async def go():
        async with lab:
            await lab.play(10)
            server.freeze()
            await lab.play(30)
            server.thaw()
            await lab.play(1)

    asyncio.run(go())
    records = lab.check_counts(41)
    assert kept(records)
    assert executed(records[10:40]) == {"local"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [("wrong-shape", "wrong-answer"), ("wrong-class", "wrong-answer"), ("model-error", "model-error")],
)
def test_a_server_whose_answers_are_wrong(tmp_path, tiny, server, fault, error):
    lab = TritonLab(tmp_path, tiny, server)

    async def go():
        async with lab:
            await lab.play(5)
            server.repository.fault(fault)
            await lab.play(15)

    asyncio.run(go())
    records = lab.check_counts(20)
    assert kept(records)
    assert executed(records[6:]) == {"local"}
    assert {a.error for r in records[6:] for a in r.attempts if a.error} == {error}


def test_a_queue_that_another_tenant_fills(tmp_path, tiny, server):
    lab = TritonLab(tmp_path, tiny, server, fallback="always")
    tenants = for_load(MODEL_SETS["fast"], "segformer-b0-jpeg", 4.0, most_waiting=3000)

    async def go():
        async with lab:
            await lab.play(5)
            server.repository.fault("", slower=5.0)
            with Tenants(server.grpc, tenants, tmp_path / "tenants.json"):
                await lab.play(40)
                loads.append(lab.run.world.seen.snapshot.loads["edge"].load)

    loads: list[float | None] = []
    asyncio.run(go())
    records = lab.check_counts(45)
    assert kept(records)
    assert executed(records[-10:]) == {"local"}


def test_a_server_that_is_missing_or_serves_another_model_is_told_before_the_first_frame(
    tmp_path, tiny, server
):
    from carbonpilot.envs.errors import InputError

    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="segformer-b9"):
        asyncio.run(_start(TritonLab(tmp_path / "a", tiny, server, "segformer-b9-jpeg")))


async def _start(lab: Lab) -> None:
    async with lab:
        pass


# In namespaces: whole processes, with a small real model on the device.


def write_model(folder: Path) -> dict[str, object]:
    """A model that takes the upper bits of every fourth red pixel for classes; its entry in a site file."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, values, kind=np.int64):
        return numpy_helper.from_array(np.array(values, kind), name)

    nodes = [
        helper.make_node("Slice", ["IMAGE", "starts", "ends", "axes", "steps"], ["red"]),
        helper.make_node("Squeeze", ["red", "last"], ["flat"]),
        helper.make_node("BitShift", ["flat", "four"], ["MASK"], direction="RIGHT"),
    ]
    constants = [
        constant("starts", [0, 0, 0]), constant("ends", [HEIGHT, WIDTH, 1]), constant("axes", [1, 2, 3]),
        constant("steps", [4, 4, 1]), constant("last", [3]), constant("four", [4], np.uint8),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("MASK", TensorProto.UINT8, [1, HEIGHT // 4, WIDTH // 4])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = folder / "small.onnx"
    onnx.save(model, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"file": file.name, "sha256": digest, "providers": ["cpu"], "intra_op_threads": 1}


@contextmanager
def device_run(bed, folder: Path, tiny, frames: int, rate: float, stopped: bool = False, **settings):
    """`carbonpilot run` on the device of a test bed; afterwards its log is complete. Yields the process."""
    host, port = bed.echo()
    place = {
        "frame": {"height": HEIGHT, "width": WIDTH},
        "local": write_model(folder),
        "remote": {"edge-b0": {"model": "segformer-b0-jpeg", "encoding": "jpeg", "jpeg_quality": QUALITY}},
        "servers": {"edge": {"grpc": bed.server.grpc, "metrics": bed.server.metrics}},
        "probes": {"uplink": {"host": host, "port": port, "method": "echo"}},
    }
    site = write_site(folder, scenario(tiny, **settings), place)
    command = [
        *(
            sys.executable,
            "-m",
            "carbonpilot.cli",
            "run",
            "--site",
            str(site),
            "--images",
            f"synthetic:{frames}",
        ),
        *(
            "--policy",
            "always-edge-b0",
            "--mode",
            "active",
            "--rate",
            str(rate),
            "--log",
            str(folder / "log"),
        ),
        *("--listen", "none", "--fallback", "always", "--queue", "40"),
    ]
    with open(folder / "said.txt", "w") as out:
        process = bed.run_device(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
        assert process.wait(90) == 0, said(folder)
        count = len(lines(folder)) if stopped else frames
        assert f"{count} frames, {count} results" in said(folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text()


def lines(folder: Path) -> list[FrameRecord]:
    return sorted((r for r in read_log(folder / "log") if isinstance(r, FrameRecord)), key=lambda r: r.frame)


def wait_for_frames(process: subprocess.Popen, folder: Path, count: int, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not list((folder / "log").glob("*.jsonl")) or len(lines(folder)) < count:
        assert process.poll() is None, said(folder)
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def link(testbed):
    before = testbed.link.profile
    yield testbed.link
    testbed.link.shape(before)


def test_a_link_that_is_cut_and_mended(tmp_path, tiny, testbed, link):
    before = link.profile
    with device_run(testbed, tmp_path, tiny, frames=120, rate=10) as process:
        wait_for_frames(process, tmp_path, 25)
        link.shape(before.cut())
        wait_for_frames(process, tmp_path, 60)
        link.shape(before)
    records = lines(tmp_path)
    assert [r.frame for r in records] == list(range(120))
    assert kept(records)
    assert "edge-b0" in executed(records[10:25])
    assert "edge-b0" not in executed(records[35:55])
    assert "edge-b0" in executed(records[100:])


@pytest.mark.parametrize("change", ["loss", "rtt"])
def test_a_link_that_turns_bad(tmp_path, tiny, testbed, link, change):
    """20 % loss, or ten times the round trip of Emu-A."""
    before = link.profile
    bad = replace(before, loss=0.2) if change == "loss" else replace(before, rtt_ms=300.0)
    with device_run(testbed, tmp_path, tiny, frames=90, rate=10) as process:
        wait_for_frames(process, tmp_path, 20)
        link.shape(bad)
    records = lines(tmp_path)
    assert [r.frame for r in records] == list(range(90))
    assert kept(records)
    assert all(r.executed is not None for r in records)


def test_a_run_is_stopped_while_the_link_is_cut(tmp_path, tiny, testbed, link):
    """What is under way is finished by the device; the numbers on the way out agree with the log."""
    before = link.profile
    with device_run(testbed, tmp_path, tiny, frames=2000, rate=10, stopped=True) as process:
        wait_for_frames(process, tmp_path, 10)
        link.shape(before.cut())
        wait_for_frames(process, tmp_path, 20)
        process.send_signal(signal.SIGTERM)
    records = lines(tmp_path)
    assert 20 <= len(records) < 200
    assert [r.frame for r in records] == list(range(len(records)))
    assert kept(records)
