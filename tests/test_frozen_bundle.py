import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from bundle_builder import check_never_unpickled, forged, swap_weights

from carbonpilot import __version__
from carbonpilot.agents import bundle_writer
from carbonpilot.agents.bundle import CARD_FILE, GRAPH_FILE, WEIGHTS_FILE, read_bundle, read_card, seal
from carbonpilot.agents.bundle_writer import add_scores, write_bundle
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.envs.errors import BundleError, CarbonPilotError, InputError
from carbonpilot.envs.observation import Feature, ObservationTable

ACTIONS = ["local-b0", "edge-b0", "north-b0"]


def table():
    names = ("rtt_ms", "load", "payload_kb")
    return ObservationTable([Feature(name, "1", 0, 20, 2, "made up", "request") for name in names])


def arrays():
    rng = np.random.default_rng(0)
    shapes = {"mean": (3,), "weight_0": (3, 8), "bias_0": (8,), "weight_1": (8, 3), "bias_1": (3,)}
    return {
        "std": np.ones(3, np.float32),
        **{k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()},
    }


def card():
    return {
        "algorithm": "ppo",
        "output": "logits",
        "network": {"layers": [3, 8, 3], "activation": "tanh"},
        "observation": {"sha256": table().sha256, "features": table().records()},
        "actions": ACTIONS,
        "scenario": "metro",
        "scenario_family": "metro",
        "scenario_sha256": "0123",
        "seed": 7,
        "training": {"command": "carbonpilot train metro", "seeds": [7], "steps": 10},
        "scores": {},
    }


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "metro-ppo", card(), arrays(), b"an ONNX file")


def test_what_is_written_is_read(bundle):
    got_card, got_arrays = read_bundle(bundle)
    assert got_card.items() >= card().items()
    assert (got_card["schema"], got_card["carbonpilot_version"]) == ("carbonpilot/bundle/2", __version__)
    assert all((got_arrays[name] == array).all() for name, array in arrays().items())
    policy = FrozenPolicy.load(bundle, table_sha256=table().sha256, family="metro")
    assert (policy.name, policy.card) == ("metro-ppo", got_card)
    assert sorted(os.listdir(bundle.parent)) == ["metro-ppo"]


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE, GRAPH_FILE])
def test_a_changed_byte_anywhere_is_refused(bundle, name):
    whole = (bundle / name).read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (bundle / name).write_bytes(damaged)
        with pytest.raises(BundleError, match=name):
            FrozenPolicy.load(bundle)
    (bundle / name).write_bytes(whole)
    FrozenPolicy.load(bundle)


@pytest.mark.parametrize("edit", [(b'd": 7', b'd": 8'), (b"\n", b"\n\n"), (b'd": 7', b'd":  7')])
def test_an_edited_card_is_refused(bundle, edit):
    content = (bundle / CARD_FILE).read_bytes()
    (bundle / CARD_FILE).write_bytes(content.replace(*edit, 1))
    with pytest.raises(BundleError, match="does not match its card_sha256"):
        FrozenPolicy.load(bundle)


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE, GRAPH_FILE])
def test_a_missing_or_cut_file_is_refused(bundle, name):
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes(whole[:-5])
    with pytest.raises(BundleError, match=name):
        FrozenPolicy.load(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        FrozenPolicy.load(bundle)


def test_what_is_not_a_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        FrozenPolicy.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"card\.json is missing"):
        FrozenPolicy.load(tmp_path)
    for content in (b"[]", b"{}", b"\xff", b"[" * 100_000, b"{" + b'"a":1'):
        (tmp_path / CARD_FILE).write_bytes(content)
        with pytest.raises(BundleError):
            FrozenPolicy.load(tmp_path)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            "carbonpilot/bundle/3",
            r"schema is 'carbonpilot/bundle/3', .* reads up to 'carbonpilot/bundle/2'.*newer version",
        ),
        ("carbonpilot/bundle/0", "expected schema 'carbonpilot/bundle/2', got 'carbonpilot/bundle/0'"),
        ("carbonpilot/run/1", "expected schema 'carbonpilot/bundle/2', got 'carbonpilot/run/1'"),
        (None, "expected schema 'carbonpilot/bundle/2', got None"),
    ],
)
def test_another_schema_is_refused(bundle, schema, message):
    forged(bundle, schema=schema)
    with pytest.raises(BundleError, match=message):
        FrozenPolicy.load(bundle)


def test_a_bundle_of_the_first_schema_is_read(bundle):
    newer = read_card(bundle)
    older = {key: value for key, value in newer.items() if key != "risk"}
    (bundle / CARD_FILE).write_bytes(seal({**older, "schema": "carbonpilot/bundle/1"}))
    policy = FrozenPolicy.load(bundle)
    assert policy.card["risk"] is None
    assert policy.decide(np.zeros(3, np.float32)) == FrozenPolicy("same", newer, arrays()).decide(
        np.zeros(3, np.float32)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"layers": [3, 8, 3], "activation": "elu"}}, "activation 'elu' is unknown"),
        ({"network": {"layers": [3, 9, 3], "activation": "relu"}}, r"weight_0 must be .* \(3, 9\)"),
        ({"network": {"layers": [3, 8], "activation": "relu"}}, "do not lead from 3 features to 3 actions"),
        ({"network": {"layers": 5, "activation": "relu"}}, "network: the card does not describe its layers"),
        ({"actions": "local"}, "'actions' is missing or not a list"),
    ],
)
def test_a_card_that_does_not_describe_its_network_is_refused(bundle, change, message):
    forged(bundle, **change)
    with pytest.raises(BundleError, match=message):
        FrozenPolicy.load(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_1": np.array([0, np.nan, 0], np.float32)}, "bias_1 must be finite"),
        ({"bias_1": np.zeros(3)}, "got float64"),
        ({"std": np.array([1, 0, 1], np.float32)}, "std must be above 0"),
        ({"surplus": np.zeros(1, np.float32)}, "expected arrays"),
    ],
)
def test_arrays_that_are_no_policy_are_neither_written_nor_read(bundle, tmp_path, change, message):
    wrong = {**arrays(), **change}
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "wrong", card(), wrong, b"")
    assert not (tmp_path / "wrong").exists()
    swap_weights(bundle, wrong)
    with pytest.raises(BundleError, match=message):
        FrozenPolicy.load(bundle)


def test_an_array_of_objects_is_refused_and_never_unpickled(bundle, tmp_path):
    check_never_unpickled(bundle, tmp_path / "exploded")


def test_load_refuses_another_table_or_family(bundle):
    with pytest.raises(BundleError, match=r"another observation table: .*, this site's is abc"):
        FrozenPolicy.load(bundle, table_sha256="abc")
    with pytest.raises(BundleError, match="not for 'drive-b4'"):
        FrozenPolicy.load(bundle, family="drive-b4")


def test_scores_are_added_and_damage_is_not_sealed_in(bundle):
    miss = {"slo_miss_rate": {"mean": 0.03, "ci95": [0.02, 0.04]}}
    add_scores(bundle, {"metro": miss})
    add_scores(bundle, {"metro-traces": miss})
    assert FrozenPolicy.load(bundle).card["scores"] == {"metro": miss, "metro-traces": miss}
    before = (bundle / CARD_FILE).read_bytes()
    with pytest.raises(InputError, match="without NaN"):
        add_scores(bundle, {"metro": float("nan")})
    assert (bundle / CARD_FILE).read_bytes() == before
    (bundle / GRAPH_FILE).write_bytes(b"another file")
    with pytest.raises(BundleError, match=r"policy\.onnx was changed"):
        add_scores(bundle, {"metro": miss})


def test_an_existing_folder_is_refused_unless_empty(bundle, tmp_path):
    with pytest.raises(InputError, match="exists"):
        write_bundle(bundle, card(), arrays(), b"")
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", card(), arrays(), b"")
    FrozenPolicy.load(tmp_path / "empty")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle_writer.Path, "write_bytes", full)
    with pytest.raises(CarbonPilotError, match="disk is full"):
        write_bundle(tmp_path / "out", card(), arrays(), b"")
    assert list(tmp_path.iterdir()) == []


FRESH = """
import json, sys
from carbonpilot.agents.frozen import FrozenPolicy
import numpy
policy = FrozenPolicy.load(sys.argv[1])
action = policy.decide(numpy.zeros(3, dtype=numpy.float32), numpy.ones(3, dtype=bool))
heavy = ["torch", "gymnasium", "stable_baselines3", "pydantic", "scipy", "onnx", "onnxruntime", "yaml"]
print(json.dumps([action, [name for name in heavy if name in sys.modules]]))
"""


def test_a_fresh_process_needs_numpy_alone(bundle):
    run = [sys.executable, "-W", "error", "-c", FRESH, str(bundle)]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    action, heavy = json.loads(output)
    assert heavy == []
    assert action == FrozenPolicy.load(bundle).decide(np.zeros(3, np.float32))
