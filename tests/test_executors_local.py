"""The device's own model in onnxruntime: checked before the first frame, its failures told, nothing silently slower."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from carbonpilot.envs.errors import InputError, MissingExtraError
from carbonpilot.real.executors import local_session
from carbonpilot.real.executors.local import LocalExecutor
from carbonpilot.real.executors.local_session import _who_computes, time_shares
from carbonpilot.real.interfaces import ExecutorError, Frame
from carbonpilot.real.site_file import FrameSize, LocalModel

HEIGHT, WIDTH = 64, 128
SIZE = FrameSize(height=HEIGHT, width=WIDTH)


def constant(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def write_model(
    folder: Path,
    *,
    name: str = "IMAGE",
    mask: tuple[int, ...] = (1, 16, 32),
    rows: int = 256,
    cut_if_bright: bool = False,
    cut_always: bool = False,
    **metadata: str,
) -> Path:
    """A model whose mask is red of every fourth pixel, looked up in a table of ``rows`` rows.

    It leaves out eight rows of the mask if the first pixel is bright, or always; the file does not tell.
    """
    constants = [
        *(
            constant("starts", 0, 0, 0, 0),
            constant("ends", 1, HEIGHT, WIDTH, 1),
            constant("axes", 0, 1, 2, 3),
        ),
        *(
            constant("steps", 1, 4, 4, 1),
            constant("last", 3),
            constant("zeros", 0, 0, 0, 0),
            constant("one", 1),
        ),
        *(constant("ones", 1, 1, 1, 1), constant("level", 128), constant("eight", 8), constant("zero", 0)),
        *(constant("all", 8 if cut_always else 16), constant("flat", -1)),
        numpy_helper.from_array((np.arange(rows) % 19).astype(np.uint8), "table"),
    ]
    make = helper.make_node
    nodes = [
        make("Slice", [name, "starts", "ends", "axes", "steps"], ["sliced"]),
        make("Squeeze", ["sliced", "last"], ["red"]),
        make("Cast", ["red"], ["index"], to=TensorProto.INT64),
        make("Gather", ["table", "index"], ["whole"]),
        make("Slice", [name, "zeros", "ones", "axes"], ["corner"]),
        make("Cast", ["corner"], ["corner_int"], to=TensorProto.INT64),
        make("Reshape", ["corner_int", "flat"], ["first"]),
        make("Div", ["first", "level"], ["bright"]),
        make("Mul", ["bright", "eight" if cut_if_bright else "zero"], ["less"]),
        make("Sub", ["all", "less"], ["rows"]),
        make("Slice", ["whole", "zero", "rows", "one"], ["MASK"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("MASK", TensorProto.UINT8, list(mask))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    file = folder / "model.onnx"
    onnx.save(model, file)
    return file


def executor(
    file: Path, *, providers=("cpu",), size: FrameSize = SIZE, sha256: str | None = None, cache=None
):
    digest = sha256 or hashlib.sha256(file.read_bytes()).hexdigest()
    model = LocalModel(
        file=file.name,
        sha256=digest,
        providers=list(providers),
        intra_op_threads=1,
        engine_cache=cache,
    )
    return LocalExecutor("local-b0", model, size, file.parent)


def frame(index: int = 0) -> Frame:
    rgb = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Frame(index, f"f{index}", rgb, None, 0.0)


def run(under_test: LocalExecutor, *frames: Frame):
    """Start, execute frames together, close; returns answers or exceptions."""

    async def go():
        await under_test.start()
        try:
            calls = (under_test.execute(f, 10.0) for f in frames)
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await under_test.close()

    return asyncio.run(go())


def test_each_frame_gets_its_own_mask(tmp_path):
    under_test = executor(write_model(tmp_path))
    frames = [frame(i) for i in range(5)]
    answers = run(under_test, *frames)
    assert under_test.provider == "CPUExecutionProvider"
    for f, answer in zip(frames, answers, strict=True):
        np.testing.assert_array_equal(answer.mask, f.rgb[::4, ::4, 0] % 19)
        assert (answer.sent_bytes, answer.received_bytes) == (0, 0)
        assert answer.server == "CPUExecutionProvider"
        assert min(answer.prepare_ms, answer.execute_ms, answer.finish_ms, answer.queued_ms) >= 0
    assert under_test.payload_bytes(frame()) == 0
    assert under_test.card is None


def test_a_model_that_fails_at_one_frame_goes_on_with_the_next(tmp_path):
    """The table has ten rows, so only dark frames can be looked up in it."""
    dark = Frame(0, "dark", np.full((HEIGHT, WIDTH, 3), 7, np.uint8), None, 0.0)
    failed, good = run(executor(write_model(tmp_path, rows=10)), frame(), dark)
    assert isinstance(failed, ExecutorError)
    assert failed.kind == "model-error"
    assert "indices element out of data bounds" in str(failed)
    assert (good.mask == 7).all()


def test_a_mask_of_another_shape_than_the_file_says_is_a_wrong_answer(tmp_path):
    bright = Frame(1, "bright", np.full((HEIGHT, WIDTH, 3), 200, np.uint8), None, 0.0)
    dark = Frame(0, "dark", np.full((HEIGHT, WIDTH, 3), 7, np.uint8), None, 0.0)
    failed, good = run(executor(write_model(tmp_path, cut_if_bright=True)), bright, dark)
    assert failed.kind == "wrong-answer"
    assert "gave (1, 8, 32) uint8 instead of (1, 16, 32) uint8" in str(failed)
    assert (good.mask == 7).all()


def test_a_model_that_always_gives_another_shape_is_refused_before_the_first_frame(tmp_path):
    message = refusal(executor(write_model(tmp_path, cut_always=True)))
    assert "gave (1, 8, 32) uint8 instead of (1, 16, 32) uint8" in message


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (WIDTH, HEIGHT, 3)])
def test_a_frame_of_another_shape_is_told(tmp_path, shape):
    (failed,) = run(executor(write_model(tmp_path)), Frame(4, "x", np.zeros(shape, np.uint8), None, 0.0))
    assert failed.kind == "model-error"
    assert "Frame 4 is" in str(failed)


def refusal(under_test: LocalExecutor) -> str:
    with pytest.raises(InputError) as refused:
        run(under_test)
    return str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    file = tmp_path / "model.onnx"
    message = refusal(executor(file, sha256="0" * 64))
    assert f"No model at {file}" in message
    assert "carbonpilot models export" in message


def test_a_file_that_has_changed(tmp_path):
    message = refusal(executor(write_model(tmp_path), sha256="0" * 64))
    assert "has changed since the site was calibrated" in message
    assert "says 000000000000..." in message


def test_a_file_that_is_no_model(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model at all")
    assert "cannot open" in refusal(executor(file))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"name": "pixel_values"},
            "expected the input IMAGE tensor(uint8) [1, 64, 128, 3], got pixel_values",
        ),
        ({"mask": (1, 32, 64)}, "expected the output MASK tensor(uint8) [1, 16, 32], got MASK"),
    ],
)
def test_a_model_with_other_tensors(tmp_path, changes, said):
    message = refusal(executor(write_model(tmp_path, **changes)))
    assert said in message
    assert "carbonpilot models export --height 64 --width 128" in message


def test_a_model_for_other_frames(tmp_path):
    message = refusal(executor(write_model(tmp_path), size=FrameSize(height=128, width=128)))
    assert (
        "expected the input IMAGE tensor(uint8) [1, 128, 128, 3], got IMAGE tensor(uint8) [1, 64, 128, 3]"
        in message
    )


def test_a_card_of_another_version(tmp_path):
    message = refusal(executor(write_model(tmp_path, carbonpilot='{"schema": "carbonpilot/model/9"}')))
    assert "is no card of carbonpilot/model/1" in message


gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(gpu, reason="this onnxruntime has a GPU's provider")
def test_a_provider_that_is_not_here_is_refused_unless_the_cpu_may_stand_in(tmp_path, caplog):
    file = write_model(tmp_path)
    message = refusal(executor(file, providers=["tensorrt", "cuda"], cache="engines"))
    assert "None of the providers ['tensorrt', 'cuda']" in message
    assert "which has ['cpu']" in message
    under_test = executor(file, providers=["cuda", "cpu"])
    with caplog.at_level(logging.WARNING):
        run(under_test)
    assert under_test.provider == "CPUExecutionProvider"
    assert "model.onnx computes on CPUExecutionProvider, not on CUDAExecutionProvider" in caplog.text


def test_who_computes_is_read_from_a_profile(tmp_path):
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "p")
    session = onnxruntime.InferenceSession(
        str(write_model(tmp_path)), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"IMAGE": frame().rgb[np.newaxis]})
    assert time_shares(Path(session.end_profiling()).read_text()) == {"CPUExecutionProvider": 1.0}


def test_a_gpu_that_leaves_the_work_to_the_cpu_is_refused():
    def node(provider: str, dur: int) -> dict:
        return {"cat": "Node", "dur": dur, "args": {"provider": provider}}

    events = [
        node("CUDAExecutionProvider", 10),
        node("CPUExecutionProvider", 90),
        {"cat": "Session", "dur": 500},
    ]
    shares = time_shares(json.dumps(events))
    assert shares == {"CPUExecutionProvider": 0.9, "CUDAExecutionProvider": 0.1}
    with pytest.raises(InputError, match=r"would compute on CPUExecutionProvider .*CPUExecutionProvider 90%"):
        _who_computes(shares, ["cuda"])
    assert _who_computes(shares, ["cuda", "cpu"]) == "CPUExecutionProvider"
    with pytest.raises(InputError, match="no profile was written"):
        _who_computes({}, ["cuda"])


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this onnxruntime has no second provider",
)
def test_a_provider_that_computes_nothing_is_noticed(tmp_path, monkeypatch, caplog):
    """The provider for Azure is there and takes no operation, as a GPU's does whose libraries do not fit."""
    monkeypatch.setitem(local_session.PROVIDERS, "cuda", "AzureExecutionProvider")
    file = write_model(tmp_path)
    message = refusal(executor(file, providers=["cuda"]))
    assert "would compute on CPUExecutionProvider although the site file asks for ['cuda']" in message
    assert "(time by provider: CPUExecutionProvider 100%)" in message
    under_test = executor(file, providers=["cuda", "cpu"])
    (answer,) = run(under_test, frame())
    assert (under_test.provider, answer.server) == ("CPUExecutionProvider", "CPUExecutionProvider")
    assert "computes on CPUExecutionProvider, not on AzureExecutionProvider" in caplog.text


def test_a_closed_executor_says_so_and_closes_twice(tmp_path):
    async def go():
        under_test = executor(write_model(tmp_path))
        with pytest.raises(ExecutorError, match="not started, or closed"):
            await under_test.execute(frame(), None)
        await under_test.start()
        await under_test.close()
        await under_test.close()
        with pytest.raises(ExecutorError, match="not started, or closed") as failed:
            await under_test.execute(frame(), None)
        return failed.value.kind

    assert asyncio.run(go()) == "cancelled"


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    file = write_model(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"carbonpilot\[device\]"):
        run(executor(file))
