"""`carbonpilot models export` of classifiers: the file computes what torch does and says what it is."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the extra [zoo]")
pytest.importorskip("onnxscript", reason="needs the extra [zoo]")

from carbonpilot.agents.torchvision_operators import OPERATORS, declare_missing_operators  # noqa: E402

declare_missing_operators()
timm = pytest.importorskip("timm", reason="needs the extra [zoo]")

from carbonpilot.agents.partition.costs import mac_costs  # noqa: E402
from carbonpilot.agents.partition.cuts import cut_points  # noqa: E402
from carbonpilot.agents.partition.graph import read_graph  # noqa: E402
from carbonpilot.agents.zoo.architectures import ARCHITECTURES  # noqa: E402
from carbonpilot.agents.zoo.export import export_classifier  # noqa: E402
from carbonpilot.agents.zoo.weights import load_network, random_network  # noqa: E402
from carbonpilot.cli import app  # noqa: E402
from carbonpilot.envs.errors import InputError, MissingExtraError  # noqa: E402
from carbonpilot.envs.model_card import METADATA_KEY, card_model, read_classifier_card, read_model_card  # noqa: E402

# Before the first layer and behind the last one there are cuts that a graph exported by tracing, which takes normalised
# numbers and pools in one operation, does not have: the count of that graph beside them.
CUTS = {"mobilenetv2": 49, "efficientnet-b0": 55, "mobilenetv4": 38}
NORMALISED, POOLED = 3, 2


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    return export_classifier("mobilenetv2", tmp_path_factory.mktemp("zoo") / "m.onnx", random_seed=3)


def test_the_file_computes_what_timm_computes(mobilenet):
    """Against timm's own network, normalised as its configuration says; nothing of the exported graph is used."""
    image = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model("mobilenetv2_100", pretrained=False).eval()
    mean, deviation = (torch.tensor(model.pretrained_cfg[key]) for key in ("mean", "std"))
    pixels = ((torch.from_numpy(image) / 255.0 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = model(pixels).numpy()
    session = onnxruntime.InferenceSession(str(mobilenet.path), providers=["CPUExecutionProvider"])
    (got,) = session.run(["LOGITS"], {"IMAGE": image})
    assert got.shape == (1, 1000)
    assert np.abs(got - wanted).max() < 1e-3 * wanted.std()


def test_the_file_says_what_it_is(mobilenet):
    metadata = {entry.key: entry.value for entry in onnx.load(mobilenet.path).metadata_props}
    card = read_classifier_card(metadata[METADATA_KEY], "file")
    assert card == mobilenet.card
    assert (card.model, card.classes, card.frame_height) == ("mobilenetv2", 1000, 224)
    assert card.architecture.startswith("mobilenetv2_100 of timm ")
    assert card_model(metadata[METADATA_KEY], "file") == "mobilenetv2"
    with pytest.raises(InputError, match="no card of carbonpilot/model/1"):
        read_model_card(metadata[METADATA_KEY], "file")


@pytest.mark.parametrize(("name", "count"), list(CUTS.items()))
@pytest.mark.slow
def test_cuts_of_the_papers_networks(tmp_path, name, count, mobilenet):
    path = mobilenet.path if name == "mobilenetv2" else tmp_path / "m.onnx"
    if name != "mobilenetv2":
        export_classifier(name, path, random_seed=0)
    graph = read_graph(path)
    cuts = cut_points(graph)
    # Bytes to numbers, minus the mean, by the deviation.
    assert [graph.operations[cut.after].kind for cut in cuts[:NORMALISED]] == ["Cast", "Sub", "Mul"]
    assert len(cuts) == NORMALISED + count + POOLED
    # Published multiply-accumulates (millions): MobileNetV2 300, EfficientNet-B0 390, MobileNetV4-Conv-S 200.
    published = {"mobilenetv2": 300, "efficientnet-b0": 390, "mobilenetv4": 200}[name]
    assert mac_costs(graph).total / 1e6 == pytest.approx(published, rel=0.08)


@pytest.mark.parametrize(
    ("name", "millions"), [("mobilenetv2", 3.50), ("efficientnet-b0", 5.29), ("mobilenetv4", 3.77)]
)
def test_the_networks_have_the_papers_sizes(name, millions):
    """CarbonEdge section IV-A3: 3.5, 5.3 and 3.8 million."""
    with torch.device("meta"):
        model = timm.create_model(ARCHITECTURES[name].timm_name, pretrained=False)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_weights_of_a_file_are_those_that_are_written(tmp_path):
    architecture = ARCHITECTURES["mobilenetv4"]
    given = random_network(architecture, 5).model.state_dict()
    torch.save({"state_dict": given}, tmp_path / "w.pth")
    loaded = load_network(architecture, tmp_path / "w.pth")
    assert loaded.source == "file w.pth"
    assert all(torch.equal(given[name], tensor) for name, tensor in loaded.model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"torn"), "Cannot load weights from"),
        (lambda path: torch.save([1, 2], path), "it holds a list"),
        (lambda path: torch.save({"a": torch.zeros(1)}, path), r"has no classifier\.bias"),
        (
            lambda path: torch.save(random_network(ARCHITECTURES["mobilenetv2"], 0).model.state_dict(), path),
            r"not those of timm's mobilenetv4_conv_small: \d+ are missing",
        ),
    ],
)
def test_weights_that_are_none_are_told(tmp_path, make, said):
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(InputError, match=said):
        load_network(ARCHITECTURES["mobilenetv4"], path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --weights FILE or --random SEED"),
        (["--random", "1", "--weights", "x"], "Give --weights FILE or --random SEED"),
        (["--random", "1", "--height", "100"], "a multiple of 32"),
        (["--random", "1", "--height", "224", "--width", "256"], "takes square pictures"),
        (["--random", "1", "--precision", "fp16"], "in fp32 only"),
    ],
)
def test_calls_that_cannot_be(tmp_path, arguments, said):
    call = ["models", "export", "--model", "mobilenetv2", "--out", str(tmp_path / "x.onnx"), *arguments]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    call = ["models", "export", "--model", "mobilenetv2", "--random", "1", "--out", str(tmp_path / "x.onnx")]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, MissingExtraError)
    assert "carbonpilot[zoo]" in str(result.exception)


BROKEN = """
import json, sys
from importlib.machinery import ModuleSpec

import torch
from carbonpilot.agents import torchvision_operators as ours

class Finder:
    # A torchvision whose operators are missing at the first import, as with another build of torch.
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, Loader) if name == "torchvision" else None

class Loader:
    def create_module(spec):
        return None
    def exec_module(module):
        if not hasattr(torch.ops.torchvision, "nms"):
            raise RuntimeError("operator torchvision::nms does not exist")
        module.loaded = True

sys.meta_path.insert(0, Finder)
ours.declare_missing_operators()
import torchvision
print(json.dumps([torchvision.loaded, all(hasattr(torch.ops.torchvision, name) for name in ours.OPERATORS)]))
"""


def test_a_torchvision_that_does_not_fit_torch_is_made_to_import():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BROKEN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True]
    assert len(OPERATORS) == 12
