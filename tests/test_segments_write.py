"""`carbonpilot segments write` and `check`: halves that do what the whole does, or nothing."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import PIL.Image
import pytest
from onnx import TensorProto
from partition_models import MASKS_CUTS, RESIDUAL_CUTS, Network, masks, residual, tangled, weights
from typer.testing import CliRunner

from carbonpilot.cli import app
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.real.segments import write as writing
from carbonpilot.real.segments.check import check_segments
from carbonpilot.real.segments.manifest import check_files, read_manifest
from carbonpilot.real.segments.write import write_segments


def run(path, feed):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All cuts of the model of masks, over bytes."""
    root = tmp_path_factory.mktemp("segments")
    model = masks(root / "masks.onnx")
    write_segments(model, MASKS_CUTS, "uint8", root / "out", max_disagreement=0.1)
    return root


@pytest.mark.parametrize(("build", "cuts"), [(residual, RESIDUAL_CUTS), (masks, MASKS_CUTS)])
@pytest.mark.parametrize("batch", [1, "n"])
def test_head_then_tail_is_the_whole_model_at_every_cut(tmp_path, build, cuts, batch):
    """By sessions of our own on inputs of our own, not by the writer's comparison."""
    model = build(tmp_path / "m.onnx", batch)
    manifest = write_segments(model, cuts, "float32", tmp_path / "out")
    rng = np.random.default_rng(11)
    if build is residual:
        feed = {"x": rng.normal(size=(1, 4, 8, 8)).astype(np.float32)}
    else:
        feed = {"IMAGE": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)}
    (expected,) = run(model, feed)
    for segment, tensor in zip(manifest.segments, cuts, strict=True):
        (activation,) = run(tmp_path / "out" / segment.head.file, feed)
        assert list(activation.shape[1:]) == segment.shape
        assert activation.size * 4 == segment.wire_bytes
        (answer,) = run(tmp_path / "out" / segment.tail.file, {tensor: activation})
        assert answer.dtype == expected.dtype
        assert np.abs(answer.astype(float) - expected.astype(float)).max() <= 1e-4
        assert segment.max_abs_difference <= 1e-4
        assert segment.agreement == 1.0


def test_the_manifest_reads_back_as_written_and_the_files_are_its_own(folder):
    manifest = read_manifest(folder / "out")
    assert manifest == read_manifest(folder / "out" / "manifest.json")
    assert [segment.tensor for segment in manifest.segments] == MASKS_CUTS
    assert manifest.segments[3].triton_model == "masks-cut-004-tail"
    assert manifest.segments[3].wire_bytes == 4 * 32 * 32 + 8
    check_files(manifest, folder / "out")


def test_the_difference_of_classes_is_told_by_the_scores_before_them(folder):
    """A mask of classes has no differences of its own; bytes must show in the scores."""
    segment = read_manifest(folder / "out").segment("cut-004")
    assert 0 < segment.wire_max_abs_difference < 0.1
    assert segment.max_abs_difference < 1e-5
    assert 0.9 <= segment.agreement <= 1.0


@pytest.mark.parametrize("part", ["head", "tail"])
def test_a_changed_or_missing_file_is_told(folder, tmp_path, part):
    copy = shutil.copytree(folder / "out", tmp_path / "copy")
    manifest = read_manifest(copy)
    file = copy / getattr(manifest.segments[1], part).file
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"its hash differs.*Copy the folder anew"):
        check_files(manifest, copy)
    check_files(manifest, copy, "cut-001")  # the others are still theirs
    file.unlink()
    with pytest.raises(InputError, match="There is no file"):
        check_files(manifest, copy, "cut-002")


def test_the_repository_is_checked_too(folder, tmp_path):
    copy = shutil.copytree(folder / "out", tmp_path / "copy")
    (copy / "triton" / "masks-cut-003-tail" / "1" / "tail.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match="not the tail of cut-003"):
        list(check_segments(copy, None, None))


def test_a_wire_that_loses_more_than_is_allowed_leaves_nothing(tmp_path):
    """Scores that lie within half a level of bytes of each other: bytes cannot tell them apart."""
    net = Network()
    net.conv("x", "a")
    net.add("Mul", ["a", net.constant("little", np.full((1, 4, 1, 1), 1e-4, np.float32))], "b")
    # The first channel reaches from -100 to 100, the others decide.
    net.add(
        "Add",
        ["b", net.constant("ramp", np.linspace(-100, 100, 4 * 64).reshape(1, 4, 8, 8).astype(np.float32))],
        "c",
    )
    net.add("Sub", ["c", "ramp"], "d")
    net.add("ArgMax", ["d"], "y", axis=1, keepdims=0)
    shape = [1, 4, 8, 8]
    model = net.save(
        tmp_path / "m.onnx", [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.INT64, [1, 8, 8])]
    )
    with pytest.raises(
        CarbonPilotError, match=r"As uint8, cut-003 \(c\) changes .*--max-disagreement allows 1"
    ) as err:
        write_segments(model, ["c"], "uint8", tmp_path / "out", max_disagreement=0.01)
    assert err.value.exit_code == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    allowed = write_segments(model, ["c"], "uint8", tmp_path / "out", max_disagreement=1.0).segments[0]
    assert allowed.agreement < 0.9


def test_a_half_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    model = residual(tmp_path / "m.onnx")
    honest = writing.extract

    def scaled(graph, cut):
        parts = honest(graph, cut)
        tail = onnx.load_from_string(parts.tail)
        for weight in tail.graph.initializer:
            if weight.name == "w":
                weight.raw_data = (1.01 * onnx.numpy_helper.to_array(weight)).astype(np.float32).tobytes()
        return type(parts)(parts.head, tail.SerializeToString())

    monkeypatch.setattr(writing, "extract", scaled)
    with pytest.raises(CarbonPilotError, match=r"from the whole model, above 0\.0001"):
        write_segments(model, ["stem"], "float32", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_are_what_is_compared_on(tmp_path):
    model, pictures = masks(tmp_path / "masks.onnx"), tmp_path / "street"
    pictures.mkdir()
    for number in range(3):
        rgb = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        PIL.Image.fromarray(rgb).save(pictures / f"{number}.png")
    (pictures / "notes.txt").write_text("no picture")
    manifest = write_segments(
        model, ["features"], "float16", tmp_path / "out", images=pictures, max_disagreement=0.1
    )
    assert manifest.segments[0].checked_on == "3 pictures of street"


def test_the_same_model_gives_the_same_files(tmp_path):
    model = residual(tmp_path / "m.onnx")
    first = write_segments(model, ["stem_relu"], "float32", tmp_path / "a")
    assert write_segments(model, ["cut-002"], "float32", tmp_path / "b") == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cut", "cut-009"], r"no cut 'cut-009'.*It has 5, cut-001 to cut-005"),
        (["--cut", "stem_rel"], "Did you mean 'stem_relu'"),
        (["--cut", "cut-001", "--cut", "stem"], "Give each --cut once"),
        (["--cut", "stem", "--max-disagreement", "1.5"], "a share from 0 to 1"),
        (["--cut", "stem", "--images", "nowhere"], "takes no pictures"),
    ],
)
def test_calls_that_cannot_be(tmp_path, arguments, said):
    model = residual(tmp_path / "m.onnx")
    call = ["segments", "write", str(model), "--out", str(tmp_path / "out"), *arguments]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, InputError)
    assert re.search(said, str(result.exception)), str(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_models_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"has no valid cut.*It runs whole"):
        write_segments(tangled(tmp_path / "t.onnx"), ["a"], "float32", tmp_path / "out")
    with pytest.raises(InputError, match="There is no file"):
        write_segments(tmp_path / "none.onnx", ["a"], "float32", tmp_path / "out")
    (tmp_path / "text.onnx").write_text("no model at all")
    with pytest.raises(InputError, match="is not a"):
        write_segments(tmp_path / "text.onnx", ["a"], "float32", tmp_path / "out")
    net = Network()
    net.add("Add", ["x", "z"], "s")
    net.add("MatMul", ["s", net.constant("w", weights(4, 4))], "m")
    net.add("Relu", ["m"], "y")
    two = net.save(
        tmp_path / "two.onnx",
        [(name, TensorProto.FLOAT, [1, 4]) for name in "xz"],
        [("y", TensorProto.FLOAT, [1, 4])],
    )
    with pytest.raises(InputError, match=r"has the inputs \['x', 'z'\]"):
        write_segments(two, ["m"], "float32", tmp_path / "out")


def test_manifests_that_cannot_be(folder, tmp_path):
    with pytest.raises(InputError, match="Write the segments with"):
        read_manifest(tmp_path)
    good = json.loads((folder / "out" / "manifest.json").read_text())
    for change, said in [
        ({"schema": "carbonpilot/segments/2"}, r"no manifest of carbonpilot/segments/1 \(schema"),
        ({"segments": []}, "segments"),
        ({"segments": good["segments"][:1] * 2}, "twice"),
        ({"extra": 1}, "extra"),
    ]:
        (tmp_path / "manifest.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=said):
            read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="no manifest"):
        read_manifest(tmp_path)


def test_another_model_than_the_one_that_was_cut_is_refused(folder, tmp_path):
    other = masks(tmp_path / "other.onnx")
    with pytest.raises(InputError, match="the hashes differ"):
        list(check_segments(folder / "out", other, None))
    result = CliRunner().invoke(
        app, ["segments", "check", str(folder / "out"), "--model", str(folder / "masks.onnx")]
    )
    assert result.exit_code == 0, result.output
    assert len(result.output.strip().splitlines()) == len(MASKS_CUTS)


@pytest.mark.slow
def test_segformer_is_the_same_after_every_cut(tmp_path):
    """B0's layers at a small frame, random weights; masks must be equal, and the card's numbers go with the tails."""
    pytest.importorskip("transformers", reason="needs the extra [models]")
    from carbonpilot.agents.segformer.export import export_segformer
    from carbonpilot.real.segments.configuration import from_text

    pytest.importorskip("tritonclient.grpc", reason="needs the extra [device]")
    model = export_segformer(
        "b0", tmp_path / "b0.onnx", height=64, width=128, random_seed=1, dynamic_batch=True
    ).path
    cuts = ["cut-004", "cut-008", "cut-011", "cut-014", "LOGITS"]
    manifest = write_segments(model, cuts, "float32", tmp_path / "out")
    rng = np.random.default_rng(9)
    images = rng.integers(0, 256, (2, 64, 128, 3), dtype=np.uint8)
    (expected,) = run(model, {"IMAGE": images})
    for segment in manifest.segments:
        assert segment.max_abs_difference <= 1e-4
        (activation,) = run(tmp_path / "out" / segment.head.file, {"IMAGE": images})
        (mask,) = run(tmp_path / "out" / segment.tail.file, {segment.tensor: activation})
        assert mask.shape == (2, 16, 32)
        assert (mask == expected).mean() > 0.999
        assert segment.triton_model == f"segformer-b0-{segment.cut}-tail"
        config = from_text((tmp_path / "out" / "triton" / segment.triton_model / "config.pbtxt").read_text())
        told = {key: value["string_value"] for key, value in config["parameters"].items()}
        assert (told["frame_height"], told["frame_width"], told["classes"]) == ("64", "128", "19")
