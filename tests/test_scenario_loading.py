"""Good scenarios load, extend another, hash and print."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from carbonpilot.envs import scenario as module
from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.scenario import (
    load_scenario,
    merge,
    scenario_dict,
    scenario_json_schema,
    scenario_sha256,
    scenario_yaml,
    shipped_scenarios,
)
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated


def save(path: Path, content: dict) -> str:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def test_a_scenario_written_out_loads_to_the_same_hash(tmp_path, tiny, tiny_scenario):
    first = load_scenario(save(tmp_path / "tiny.yaml", tiny))
    (tmp_path / "again.yaml").write_text(scenario_yaml(first))
    again = load_scenario(tmp_path / "again.yaml")
    assert first == again == tiny_scenario()
    assert scenario_sha256(first) == scenario_sha256(again)


def test_hash_is_that_of_the_canonical_json(tiny_scenario):
    scenario = tiny_scenario()
    text = json.dumps(scenario_dict(scenario), sort_keys=True, separators=(",", ":"))
    assert '"latency_ms":150.0' in text
    assert scenario_sha256(scenario) == hashlib.sha256(text.encode()).hexdigest()


def test_hash_sees_every_number_and_no_spelling(tmp_path, tiny, tiny_scenario):
    base = scenario_sha256(tiny_scenario())
    assert scenario_sha256(tiny_scenario(slo={"latency_ms": 150.0})) == base
    assert scenario_sha256(tiny_scenario(slo={"latency_ms": 150.0001})) != base
    backwards = dict(reversed(tiny.items()))
    assert scenario_sha256(load_scenario(save(tmp_path / "b.yaml", backwards))) == base


def test_extends_changes_only_what_it_says(tmp_path, tiny):
    save(tmp_path / "tiny.yaml", tiny)
    child = {
        "extends": "tiny.yaml",
        "name": "tiny-slow",
        "description": "Slower.",
        "slo": {"latency_ms": 300},
        "zones": {"away": {"kind": "generated", "regions": ["france"]}},
        "nodes": {"edge": {"background": None, "pue": 1.5}},
    }
    got = scenario_dict(load_scenario(save(tmp_path / "child.yaml", child)))
    expected = {**tiny, "name": "tiny-slow", "description": "Slower."}
    expected["slo"] = {"latency_ms": 300, "quantile": 0.95}
    expected["zones"] = {**tiny["zones"], "away": {"kind": "generated", "regions": ["france"]}}
    expected["nodes"]["edge"] = {**tiny["nodes"]["edge"], "pue": 1.5}
    del expected["nodes"]["edge"]["background"]
    assert got == expected


def test_extends_twice_and_by_shipped_name(tmp_path, tiny, monkeypatch):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(module, "SCENARIOS", shipped)
    save(shipped / "tiny.yaml", tiny)
    own = {"description": "d", "extends": "tiny", "name": "middle", "slo": {"latency_ms": 200}}
    save(tmp_path / "middle.yaml", own)
    top = {"description": "d", "extends": "middle.yaml", "name": "top", "slo": {"quantile": 0.9}}
    slo = load_scenario(save(tmp_path / "top.yaml", top)).slo
    assert (slo.latency_ms, slo.quantile) == (200, 0.9)


def test_merge_leaves_its_arguments_alone_and_replaces_lists_and_other_forms():
    base = {"a": {"kind": "x", "one": 1}, "list": [1, 2], "gone": 1, "deep": {"k": {"v": 1, "w": 2}}}
    changes = {"a": {"kind": "y", "two": 2}, "list": [3], "gone": None, "deep": {"k": {"v": 5}}}
    before = json.dumps([base, changes])
    assert merge(base, changes) == {
        "a": {"kind": "y", "two": 2},
        "list": [3],
        "deep": {"k": {"v": 5, "w": 2}},
    }
    assert json.dumps([base, changes]) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"extends": "self.yaml", "name": "s", "description": "d"}, "leads back"),
        ({"extends": "../nowhere/x.yaml", "name": "s", "description": "d"}, "There is no file"),
        ({"extends": "no-such-scenario", "name": "s", "description": "d"}, "Unknown scenario"),
        ({"extends": ["a"], "name": "s", "description": "d"}, "one scenario"),
        ({"extends": "tiny.yaml", "description": "d"}, "name: missing"),
        ({"extends": "tiny.yaml", "name": "s"}, "description: missing"),
    ],
)
def test_wrong_extends(tmp_path, tiny, content, message):
    save(tmp_path / "tiny.yaml", tiny)
    with pytest.raises(InputError, match=message):
        load_scenario(save(tmp_path / "self.yaml", content))


def test_traces_takes_the_form_that_reads_them(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(module, "SCENARIOS", tmp_path)
    save(tmp_path / "tiny.yaml", tiny)
    save(tmp_path / "tiny-traces.yaml", {**tiny, "name": "tiny-traces", "split": "traces"})
    save(tmp_path / "other.yaml", {**tiny, "name": "other"})
    assert load_scenario("tiny").name == "tiny"
    assert load_scenario("tiny", traces=True).name == "tiny-traces"
    assert load_scenario("tiny-traces", traces=True).name == "tiny-traces"
    with pytest.raises(InputError, match=r"'other' has no form that reads traces.*Scenarios that do: tiny"):
        load_scenario("other", traces=True)
    with pytest.raises(InputError, match="reads no trace folder"):
        load_scenario(tmp_path / "other.yaml", traces=True)


def test_every_shipped_scenario_is_valid_and_named_after_its_file():
    names = [load_scenario(name).name for name in shipped_scenarios()]
    assert names == shipped_scenarios()


def test_json_schema_holds_units_ranges_and_forms():
    schema = scenario_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Slo"]["properties"]["latency_ms"]["exclusiveMinimum"] == 0
    assert set(schema["$defs"]["Link"]["properties"]["source"]["discriminator"]["mapping"]) == {
        "phases",
        "switched",
        "generated",
        "traces",
    }


def test_exported_json_schema_is_the_current_one():
    file = module.SCENARIOS.parent / "scenario.schema.json"
    message = "run: carbonpilot scenarios --schema configs/scenario.schema.json"
    assert json.loads(file.read_text()) == scenario_json_schema(), message


def test_validated_keeps_the_callers_data(tiny):
    before = json.dumps(tiny)
    validated(Scenario, tiny, "tiny")
    assert json.dumps(tiny) == before


def test_scenario_error_is_an_input_error_with_exit_code_2():
    assert issubclass(ScenarioError, InputError)
    assert ScenarioError.exit_code == 2
