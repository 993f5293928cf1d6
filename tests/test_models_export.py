"""`carbonpilot models export`: the file computes what torch does and says what it is, or is not there at all."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the extra [models]")
pytest.importorskip("transformers", reason="needs the extra [models]")

from carbonpilot.agents import model_commands  # noqa: E402
from carbonpilot.agents.segformer import export as exporter  # noqa: E402
from carbonpilot.agents.segformer.agreement import Agreement  # noqa: E402
from carbonpilot.agents.segformer.network import SegformerForSemanticSegmentation  # noqa: E402
from carbonpilot.agents.segformer.variants import CLASSES, VARIANTS  # noqa: E402
from carbonpilot.agents.segformer.weights import _config, load_weights, random_weights  # noqa: E402
from carbonpilot.envs.errors import CarbonPilotError, InputError, MissingExtraError  # noqa: E402
from carbonpilot.envs.model_card import METADATA_KEY, read_model_card  # noqa: E402
from carbonpilot.real.executors.local import LocalExecutor  # noqa: E402
from carbonpilot.real.interfaces import Frame  # noqa: E402
from carbonpilot.real.site_file import FrameSize, LocalModel, file_sha256  # noqa: E402

HEIGHT, WIDTH = 64, 128
B0 = VARIANTS["b0"]
SMALL = replace(B0, name="segformer-small", depths=(1, 1, 1, 1))  # quicker to export; else as B0


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Exports of "b0" in this file are of the small one, but for the test that asks for B0 itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "b0", SMALL)
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory, _small):
    """A file of random weights for any batch, and the graph as it was before it was finished."""
    graphs: list[onnx.ModelProto] = []
    original = exporter._onnx_graph

    def keep(*arguments):
        graphs.append(original(*arguments))
        copy = onnx.ModelProto()
        copy.CopyFrom(graphs[-1])
        return copy

    out = tmp_path_factory.mktemp("models") / "new" / "b0.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "_onnx_graph", keep)
        done = exporter.export_segformer(
            "b0", out, height=HEIGHT, width=WIDTH, random_seed=7, dynamic_batch=True
        )
    return done, graphs[0]


@pytest.fixture
def quick(exported, monkeypatch):
    """Exports of the same graph again, without the exporter's ten seconds."""

    def again(*_):
        copy = onnx.ModelProto()
        copy.CopyFrom(exported[1])
        return copy

    monkeypatch.setattr(exporter, "_onnx_graph", again)


def images(count: int) -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (count, HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_the_file_computes_what_the_model_computes(exported):
    """Against the model itself, normalised as its image processor documents it; nothing of the graph is used."""
    batch = images(3)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(batch) / 255.0 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = random_weights(SMALL, 7).model(pixel_values=pixels).logits.argmax(1).numpy()
    session = onnxruntime.InferenceSession(str(exported[0].path), providers=["CPUExecutionProvider"])
    (mask,) = session.run(None, {"IMAGE": batch})
    assert mask.dtype == np.uint8
    assert mask.shape == (3, HEIGHT // 4, WIDTH // 4)
    assert (mask == expected).mean() > 0.999
    assert len(np.unique(mask)) > 5  # a mask of one class would agree with anything
    (single,) = session.run(None, {"IMAGE": batch[1:2]})
    assert (single[0] == mask[1]).mean() > 0.999


def test_the_file_says_what_it_is(exported):
    done, _ = exported
    model = onnx.load(done.path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    card = read_model_card(metadata[METADATA_KEY], "file")
    assert card == done.card
    assert (card.model, card.frame_height, card.frame_width, card.mask_size) == (
        "segformer-small",
        64,
        128,
        (16, 32),
    )
    assert card.classes == list(CLASSES)
    assert len(card.classes) == 19
    assert card.weights == "random, seed 7"
    assert card.weights_sha256 == random_weights(SMALL, 7).sha256
    assert (card.miou_pct, card.miou_source) == (None, None)
    assert [o.name for o in model.graph.output] == ["MASK"]
    assert done.size_bytes == done.path.stat().st_size < 20e6


def test_the_file_holds_nothing_of_the_machine_that_made_it(exported):
    data = exported[0].path.read_bytes()
    for word in (b"site-packages", b".py", str(Path.home()).encode() + b"/", os.getcwd().encode()):
        assert word not in data


def test_the_same_weights_make_the_same_file(exported, quick, tmp_path):
    again = exporter.export_segformer(
        "b0", tmp_path / "b0.onnx", height=HEIGHT, width=WIDTH, random_seed=7, dynamic_batch=True
    )
    assert again.path.read_bytes() == exported[0].path.read_bytes()


def test_a_file_that_disagrees_is_not_written(quick, tmp_path):
    """The graph is of seed 7, the weights are of seed 8."""
    out = tmp_path / "b0.onnx"
    out.write_text("the old one")
    with pytest.raises(
        CarbonPilotError, match="does not compute what torch does: largest difference"
    ) as failed:
        exporter.export_segformer("b0", out, height=HEIGHT, width=WIDTH, random_seed=8)
    assert failed.value.exit_code == 1
    assert out.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("difference", "equal", "holds"),
    [(1e-7, 1.0, True), (1.0, 1.0, False), (1e-7, 0.9, False), (float("nan"), 1.0, False)],
)
def test_agreement_needs_logits_and_pixels(difference, equal, holds):
    assert Agreement(difference, 0.03, equal, "fp32").holds is holds


def test_seeds_make_weights_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    assert random_weights(B0, 1).sha256 == random_weights(B0, 1).sha256
    assert random_weights(B0, 1).sha256 != random_weights(B0, 2).sha256
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Weights as `huggingface-cli download` leaves them."""
    path = tmp_path_factory.mktemp("weights") / "my-segformer"
    random_weights(B0, 5).model.save_pretrained(path)
    return path


def test_weights_of_a_folder(folder):
    weights = load_weights(B0, str(folder))
    assert weights.sha256 == random_weights(B0, 5).sha256
    assert weights.source == "folder my-segformer"
    assert weights.miou_pct is None  # nothing is published about these
    assert not weights.model.training


def test_weights_of_another_model_are_refused(folder):
    with pytest.raises(
        InputError, match=r"not those of segformer-b4 .* expected depths \[3, 8, 27, 3\], got"
    ):
        load_weights(VARIANTS["b4"], str(folder))


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_weights_for_other_classes_are_refused(folder, tmp_path):
    other = copy_of(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {str(i): f"class {i}" for i in range(150)}
    config["label2id"] = {f"class {i}": i for i in range(150)}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="expected num_labels 19, got 150"):
        load_weights(B0, str(other))


def test_incomplete_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    other = copy_of(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith("decode_head")}
    save_file(encoder, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"are missing \(decode_head.*a backbone without its decoder"):
        load_weights(B0, str(other))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_torn_or_missing_file_is_said(folder, tmp_path, file, cut):
    other = copy_of(folder, tmp_path / "other")
    data = (other / file).read_bytes()
    (other / file).unlink()
    if cut:
        (other / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="Cannot load SegFormer weights from folder"):
        load_weights(B0, str(other))


@pytest.mark.parametrize("name", ["./nowhere", "/not/there", "segformer", "a/b/c"])
def test_what_is_neither_folder_nor_name_is_said(name):
    with pytest.raises(InputError, match=r"no such folder\. Give a folder with config\.json"):
        load_weights(B0, name)


HUB = """
import sys
from dataclasses import replace
from pathlib import Path
from huggingface_hub import constants
from carbonpilot.agents.segformer.network import SegformerForSemanticSegmentation  # noqa: E402
from carbonpilot.agents.segformer.variants import VARIANTS
from carbonpilot.agents.segformer.weights import load_weights, random_weights
from carbonpilot.envs.errors import InputError

b0, b4 = VARIANTS["b0"], VARIANTS["b4"]
cached = Path(constants.HF_HUB_CACHE) / ("models--" + b0.hub_name.replace("/", "--"))
random_weights(b0, 5).model.save_pretrained(cached / "snapshots" / ("a" * 40))
(cached / "refs").mkdir()
(cached / "refs" / "main").write_text("a" * 40)
weights = load_weights(b0, None)
print(weights.source, weights.miou_pct, weights.miou_source, sep="|")
try:
    load_weights(b4, None)
except InputError as err:
    print(err)
"""


def test_the_hubs_weights_come_from_the_cache_or_the_message_says_how_to_get_them(tmp_path):
    """In a process of its own, because the hub's library reads its settings once. No port 9 answers on loopback."""
    settings = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", HUB],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **settings},
        timeout=120,
    )
    found, missing = done.stdout.strip().splitlines()[-2:]
    name = B0.hub_name
    assert found == f"huggingface.co/{name}@{'a' * 40}|74.6|Khan et al., Table 2"
    assert f"Cannot reach Hugging Face for '{VARIANTS['b4'].hub_name}'" in missing
    assert "give --weights FOLDER" in missing
    assert "--random SEED" in missing


def command(*arguments: str):
    from carbonpilot.cli import app

    return CliRunner().invoke(app, ["models", "export", *arguments])


def test_the_command_says_what_it_found_and_wrote(quick, tmp_path):
    out = tmp_path / "b0.onnx"
    size = ("--height", str(HEIGHT), "--width", str(WIDTH))
    result = command("--model", "b0", *size, "--random", "7", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "against torch: largest difference of a logit" in result.output
    assert "% of the pixels have the same class" in result.output
    assert f"wrote {out} (" in result.output.replace("\n", "")
    assert "random, seed 7; no mIoU is published" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--height", "100"), r"--height 100: a multiple of 32 is needed"),
        (("--width", "0"), r"--width 0: a multiple of 32 is needed"),
        (("--random", "1", "--weights", "x"), "Give --weights or --random, not both"),
        (("--weights", "./nowhere"), "no such folder"),
    ],
)
def test_calls_that_cannot_be(tmp_path, arguments, said):
    result = command("--model", "b0", "--out", str(tmp_path / "x.onnx"), *arguments)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'carbonpilot\[models\]'"):
        model_commands.export(model_commands.ModelName.b0, tmp_path / "x.onnx", random=1)


def test_half_precision_is_smaller_and_close(exported, tmp_path):
    done = exporter.export_segformer(
        "b0", tmp_path / "x.onnx", height=HEIGHT, width=WIDTH, random_seed=7, precision="fp16"
    )
    assert done.size_bytes < 0.6 * exported[0].size_bytes
    assert done.agreement.equal_pixels > 0.99
    assert done.card.precision == "fp16"


@pytest.mark.parametrize(("size", "parameters"), [("b0", 3_719_027), ("b4", 64_007_635)])
def test_the_variants_have_the_papers_sizes(size, parameters):
    """3.7 and 64.0 million (Xie et al. 2021, Table 6)."""
    variant = B0 if size == "b0" else VARIANTS[size]
    with torch.device("meta"):
        model = SegformerForSemanticSegmentation(_config(variant))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.slow
def test_b0_itself_for_the_device(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "b0", B0)
    out = tmp_path / "b0.onnx"
    done = exporter.export_segformer("b0", out, height=HEIGHT, width=WIDTH, random_seed=1)
    assert done.card.model == "segformer-b0"
    assert done.agreement.equal_pixels == 1.0
    model = LocalModel(file="b0.onnx", sha256=file_sha256(out), providers=["cpu"], intra_op_threads=1)

    async def segment():
        executor = LocalExecutor("local", model, FrameSize(height=HEIGHT, width=WIDTH), tmp_path)
        await executor.start()
        answer = await executor.execute(Frame(0, "x", images(1)[0], None, 0.0), None)
        await executor.close()
        return answer.mask, executor.card

    mask, card = asyncio.run(segment())
    assert card == done.card
    assert len(np.unique(mask)) > 5
