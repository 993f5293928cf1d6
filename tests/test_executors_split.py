"""The executor of split models: the whole model's masks, checks before the first frame, failures told apart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from site_builder import site_of
from split_model import CUT, SIZE, SplitServer, running, small_model
from split_site import SPLIT_PLACE

from carbonpilot.envs.errors import InputError, MissingExtraError
from carbonpilot.real.doctor.site_checks import site_findings
from carbonpilot.real.executors.device import Device
from carbonpilot.real.executors.local import LocalExecutor
from carbonpilot.real.executors.split import SplitExecutor
from carbonpilot.real.executors.triton_channel import TritonChannel
from carbonpilot.real.executors.triton_checks import UnreachableServerError
from carbonpilot.real.interfaces import ExecutorError, Frame, HeadAndTail
from carbonpilot.real.segments.write import write_segments
from carbonpilot.real.site_file import FrameSize, LocalModel, RemoteModel, Server, file_sha256

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def served_split(triton_environment, tmp_path_factory):
    """A running `SplitServer`; a test that breaks it must mend it."""
    with running(triton_environment, tmp_path_factory.mktemp("split")) as made:
        yield made


def frame(index: int = 0) -> Frame:
    coarse = np.random.default_rng(index).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return Frame(index, f"f{index}", coarse.repeat(8, axis=0).repeat(8, axis=1), None, 0.0)


def made(folder: Path, local: LocalModel, grpc: str, segments: str, cut: str, model: str, **changes):
    remote = RemoteModel(model=model, encoding="activation", segments=segments, cut=cut)
    size = changes.pop("size", SIZE)
    channel = TritonChannel(Server(grpc=grpc), folder)
    return SplitExecutor("edge-cut", remote, local, size, folder, channel, changes.pop("device", Device()))


def executor(served: SplitServer, wire: str = "float32", **changes) -> SplitExecutor:
    segment = served.manifests[wire].segments[0]
    model = changes.pop("model", f"{segment.triton_model}-{wire}")
    where = changes.pop("segments", wire)
    return made(served.folder, served.local, served.server.grpc, where, segment.cut, model, **changes)


def run(under_test, test):
    async def go():
        await under_test.start()
        try:
            return await test(under_test)
        finally:
            await under_test.close()

    return asyncio.run(go())


async def failure(call) -> ExecutorError:
    with pytest.raises(ExecutorError) as failed:
        await call
    return failed.value


# Against the real server.


@pytest.mark.parametrize("wire", ["float32", "float16", "uint8"])
def test_head_and_tail_give_the_masks_of_the_whole_model(served_split, wire):
    frames = [frame(i) for i in range(6)]

    async def both(under_test):
        whole = LocalExecutor("local", served_split.local, SIZE, served_split.folder)
        await whole.start()
        expected = [(await whole.execute(f, 10.0)).mask for f in frames]
        await whole.close()
        return expected, await asyncio.gather(*(under_test.execute(f, 10.0) for f in frames))

    under_test = executor(served_split, wire)
    expected, answers = run(under_test, both)
    assert isinstance(under_test, HeadAndTail)
    assert under_test.provider == "CPUExecutionProvider, then triton 2.51.0 python"
    segment = served_split.manifests[wire].segments[0]
    for mask, answer in zip(expected, answers, strict=True):
        different = (answer.mask != mask).mean()
        assert different == 0 if wire == "float32" else different < 0.05
        assert answer.sent_bytes == segment.wire_bytes == under_test.payload_bytes(frame())
        assert answer.head_ms > 0
        assert answer.execute_ms > 0
        assert answer.received_bytes == mask.size
    waited = sorted(a.head_queued_ms for a in answers)
    assert waited[-1] > 0, "the device computes one head at a time"


def test_heads_and_whole_frames_take_turns_in_the_devices_one_worker(served_split):
    async def go():
        device = Device()
        whole = LocalExecutor("local", served_split.local, SIZE, served_split.folder, device)
        split = executor(served_split, device=device)
        await whole.start()
        await split.start()
        assert whole._worker is split._worker
        blocker = asyncio.create_task(whole._worker.run(lambda: time.sleep(0.2)))
        await asyncio.sleep(0.02)
        head = await split.head(frame(), 5.0)
        await blocker
        await whole.close()
        answer = await split.execute(frame(), 5.0)  # the other one's end is not its own
        await split.close()
        await split.close()
        return head, answer

    head, answer = asyncio.run(go())
    assert head.queued_ms > 100
    assert answer.mask.shape == (16, 32)


def test_a_head_that_waits_for_the_device_can_be_given_up(served_split):
    async def test(under_test):
        blocker = asyncio.create_task(under_test._worker.run(lambda: time.sleep(0.3)))
        await asyncio.sleep(0.02)
        failed = await failure(under_test.head(frame(), 0.05))
        await blocker
        return failed

    failed = run(executor(served_split), test)
    assert failed.kind == "timeout"
    assert "still waiting for earlier frames" in str(failed)
    assert failed.queued_ms > 40


def test_the_tail_has_what_is_left_of_the_deadline(served_split):
    async def test(under_test):
        blocker = asyncio.create_task(under_test._worker.run(lambda: time.sleep(0.1)))
        await asyncio.sleep(0.01)
        served_split.server.freeze()
        try:
            failed = await failure(under_test.execute(frame(), 0.3))
        finally:
            served_split.server.thaw()
        await blocker
        past = await failure(under_test.tail(frame(), await under_test.head(frame(), None), -0.01))
        return failed, past, await under_test.execute(frame(), 10.0)

    failed, past, after = run(executor(served_split), test)
    assert (failed.kind, past.kind) == ("timeout", "timeout")
    assert after.mask.shape == (16, 32)


def test_a_server_killed_between_head_and_tail_is_unreachable_until_it_is_back(served_split):
    async def test(under_test):
        head = await under_test.head(frame(), 5.0)
        await asyncio.to_thread(served_split.server.kill)
        killed = await failure(under_test.tail(frame(), head, 1.0))
        await asyncio.to_thread(served_split.server.restart)
        for _ in range(50):
            with contextlib.suppress(ExecutorError):
                return killed, await under_test.tail(frame(), head, 2.0)
            await asyncio.sleep(0.1)
        return killed, None

    killed, after = run(executor(served_split), test)
    assert killed.kind in ("unreachable", "timeout")
    assert after is not None
    assert after.mask.shape == (16, 32)


def test_numbers_that_are_none_are_not_sent(served_split, monkeypatch):
    async def test(under_test):
        monkeypatch.setattr(
            under_test._head, "_run", lambda image: np.full((1, 8, 16, 32), np.nan, np.float32)
        )
        nan = await failure(under_test.execute(frame(), 5.0))
        monkeypatch.setattr(under_test._head, "_run", lambda image: np.zeros((1, 8, 16, 31), np.float32))
        shape = await failure(under_test.execute(frame(), 5.0))
        return nan, shape

    nan, shape = run(executor(served_split), test)
    assert (nan.kind, shape.kind) == ("wrong-answer", "wrong-answer")
    assert "not finite" in str(nan)
    assert "gave (1, 8, 16, 31) instead of (1, 8, 16, 32)" in str(shape)


# Before the first frame.


def refusal(under_test, error=InputError) -> str:
    async def nothing(_):
        pass

    with pytest.raises(error) as refused:
        run(under_test, nothing)
    return str(refused.value)


@pytest.fixture
def own(tmp_path):
    """A model and its segments in a folder of the test's own; nobody serves them."""
    model = small_model(tmp_path / "small.onnx")
    write_segments(model, [CUT], "float32", tmp_path / "segments")
    local = LocalModel(file="small.onnx", sha256=file_sha256(model), providers=["cpu"], intra_op_threads=1)
    cut = json.loads((tmp_path / "segments" / "manifest.json").read_text())["segments"][0]["cut"]

    def build(cut=cut, **changes):
        return made(tmp_path, changes.pop("local", local), NOBODY, "segments", cut, "small-tail", **changes)

    build.folder, build.cut, build.local = tmp_path, cut, local
    return build


def test_no_manifest(own):
    shutil.rmtree(own.folder / "segments")
    assert "segments/manifest.json" in refusal(own())


def test_an_unknown_cut_names_those_that_are_there(own):
    message = refusal(own(cut="cut-999"))
    assert message.startswith("deployment.remote.edge-cut.cut: ")
    assert own.cut in message


def test_a_head_that_is_not_there_or_has_changed(own):
    head = own.folder / "segments" / own.cut / "head.onnx"
    head.write_bytes(head.read_bytes() + b" ")
    assert "has changed since the segments were written" in refusal(own())
    head.unlink()
    message = refusal(own())
    assert message.startswith("Placement edge-cut: No model at ")
    assert "the segments' manifest names it" in message


def test_a_head_for_other_frames(own):
    message = refusal(own(size=FrameSize(height=128, width=128)))
    assert "expected the input IMAGE tensor(uint8) [1, 128, 128, 3]" in message


def test_a_provider_that_this_device_lacks(own):
    message = refusal(
        own(local=own.local.model_copy(update={"providers": ["tensorrt"], "engine_cache": "e"}))
    )
    assert "None of the providers ['tensorrt']" in message
    assert "Placement edge-cut" in message


def test_a_head_that_onnxruntime_cannot_run(own):
    """An operation that nobody here knows; the manifest is written for it."""
    file = own.folder / "segments" / own.cut / "head.onnx"
    model = onnx.load(str(file))
    model.graph.node[0].domain = "nobody.knows"
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, str(file))
    manifest = own.folder / "segments" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["segments"][0]["head"]["sha256"] = file_sha256(file)
    manifest.write_text(json.dumps(content))
    assert "cannot open" in refusal(own())


def test_nobody_at_the_address_leaves_the_head_open_for_the_next_try(own):
    async def go():
        under_test = own()
        for _ in range(2):
            with pytest.raises(UnreachableServerError):
                await under_test.start()
        head = under_test._head
        activation = await under_test.head(frame(), 5.0)
        await under_test.close()
        return head, activation

    head, activation = asyncio.run(go())
    assert head is not None
    assert activation.sent_bytes == 4 * 8 * 16 * 32


def test_without_onnxruntime_the_extra_is_named(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "carbonpilot[device]" in refusal(own(), MissingExtraError)


def test_a_tail_that_is_not_served_names_the_nearest(served_split):
    message = refusal(executor(served_split, model="small-cut-005-tail-float3"))
    assert "has no model 'small-cut-005-tail-float3'. Did you mean" in message


def test_the_tail_of_another_wire_or_model_is_refused(served_split):
    other = served_split.manifests["uint8"].segments[0].triton_model + "-uint8"
    message = refusal(executor(served_split, model=other))
    assert "expected the input ACTIVATION TYPE_FP32 [8, 16, 32], got ACTIVATION TYPE_UINT8" in message
    assert "carbonpilot segments load float32" in message
    assert "expected the input ACTIVATION TYPE_FP32" in refusal(
        executor(served_split, model="whole-onnx-uint8")
    )


def test_a_tail_of_other_weights_is_refused(served_split):
    """The same shapes, another training: only the hash tells."""
    folder = served_split.folder / "other"
    folder.mkdir(exist_ok=True)
    model = small_model(folder / "small.onnx", seed=4)
    write_segments(model, [CUT], "float32", folder / "segments")
    message = refusal(executor(served_split, segments="other/segments"))
    assert "is another tail than the manifest's: its SHA-256 is" in message


def test_the_doctor_asks_for_the_tail_and_looks_at_the_segments(served_split, tiny_scenario, tiny):
    segment = served_split.manifests["uint8"].segments[0]
    tail = {
        "model": f"{segment.triton_model}-uint8",
        "encoding": "activation",
        "segments": "uint8",
        "cut": segment.cut,
    }
    split = {**SPLIT_PLACE, "split": SPLIT_PLACE["split"] | {"cut": segment.cut}}
    site = site_of(
        tiny_scenario(placements=[tiny["placements"][0], split]),
        remote={"edge-cut": tail},
        servers={"edge": {"grpc": served_split.server.grpc}},
        frame=SIZE.model_dump(),
    )

    def found():
        looks = site_findings(site, served_split.folder / "site.yaml", served_split.folder)
        return next(f for f in looks if f.name == "placement edge-cut")

    assert found().state == "ok"
    assert "triton 2.51.0 python" in found().detail
    head = served_split.folder / "uint8" / segment.head.file
    kept = head.read_bytes()
    head.write_bytes(kept + b" ")
    try:
        broken = found()
    finally:
        head.write_bytes(kept)
    assert broken.state == "failed"
    assert "head.onnx" in broken.detail
