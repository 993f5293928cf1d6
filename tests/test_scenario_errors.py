"""A broken scenario is refused in the user's own words: file, dotted path, rule, nearest known key."""

from __future__ import annotations

import copy
import math
import re

import pytest
import yaml

from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.strict_yaml import parse_yaml
from carbonpilot.envs.validation import MAX_PROBLEMS, validated

LINK = "links.uplink.source"


def put(content: dict, path: str, value: object) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        content = content[part]
    content[last] = value


def pop(content: dict, path: str) -> object:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        content = content[part]
    return content.pop(last)


def refusal(content: dict) -> str:
    with pytest.raises(ScenarioError) as caught:
        validated(Scenario, content, "site.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("slo.latency_ms", -5, "slo.latency_ms: must be > 0, got -5"),
        ("slo.latency_ms", 0, "slo.latency_ms: must be > 0, got 0"),
        ("slo.quantile", 1, "slo.quantile: must be < 1, got 1"),
        (f"{LINK}.phases.0.loss_pct", 100.5, f"{LINK}.phases.0.loss_pct: must be <= 100, got 100.5"),
        ("nodes.edge.pue", 0.9, "nodes.edge.pue: must be >= 1, got 0.9"),
        ("nodes.edge.batching.max_batch", 2.5, "nodes.edge.batching.max_batch: must be a whole number"),
        ("slo.latency_ms", "150", "slo.latency_ms: must be a number, got '150' (text; remove the quotes)"),
        ("slo.latency_ms", "150 ms", "must be a number, got '150 ms' (text; write the bare number"),
        ("slo.latency_ms", None, "slo.latency_ms: must be a number, got nothing"),
        ("slo.latency_ms", True, "slo.latency_ms: must be a number, got true"),
        ("slo.latency_ms", math.inf, "slo.latency_ms: must be a finite number, got inf"),
        ("slo.latency_ms", math.nan, "slo.latency_ms: must be a finite number, got nan"),
        ("payload.low_kb", math.nan, "payload.low_kb: must be"),
        ("wishes.carbon", math.nan, "wishes.carbon: must be"),
        ("slo", 150, "slo: must be keys and values, got 150"),
        ("placements", {}, "placements: must be a list, got keys and values"),
        ("placements", [], "placements: must have at least 1 entries, got 0"),
        ("name", "My Site", "name: must match"),
        ("payload.low_kb", 500, "payload: low (500.0) must not exceed high (80.0)"),
        ("account", "marginl", "account: must be 'marginal' or 'attributional', got 'marginl'. Did you mean"),
        (f"{LINK}.kind", "phase", f"{LINK}.kind: unknown 'phase'. Did you mean 'phases'?"),
        ("device.zone", "hom", "device.zone: 'hom' is not defined. Did you mean 'home'?"),
        ("nodes.edge.link", "uplnk", "nodes.edge.link: 'uplnk' is not defined. Did you mean 'uplink'?"),
        ("placements.1.service.mean_ms", -1, "placements.1.service.mean_ms: must be > 0, got -1"),
        ("placements.1.batched_energy_j", None, "placements.1.batched_energy_j is needed"),
        ("telemetry.probe_interval_s", 0.5, "telemetry.probe_interval_s: must be a whole number of seconds"),
        ("telemetry.probe_interval_s", 1.5, "telemetry.probe_interval_s: must be a whole number of seconds"),
        ("telemetry.probe_interval_s", math.inf, "telemetry.probe_interval_s: must be"),
        ("telemetry.probe_interval_s", math.nan, "telemetry.probe_interval_s: must be"),
    ],
)
def test_wrong_value(tiny, path, value, message):
    put(tiny, path, value)
    text = refusal(tiny)
    assert text.startswith("site.yaml: ")
    assert message in text
    assert "problems" not in text


@pytest.mark.parametrize(
    ("path", "misspelt", "message"),
    [
        ("slo.latency_ms", "slo.latency", "slo.latency: unknown key. Did you mean 'latency_ms'?"),
        (
            "placements.0.service.p50_ms",
            "placements.0.service.p50ms",
            "placements.0.service.p50ms: unknown key. Did you mean 'p50_ms'?",
        ),
        (
            f"{LINK}.phases.0.rtt_ms",
            f"{LINK}.phases.0.rtt",
            f"{LINK}.phases.0.rtt: unknown key. Did you mean 'rtt_ms'?",
        ),
        (
            "arrivals.low_per_s",
            "arrivals.low_pr_s",
            "arrivals.low_pr_s: unknown key. Did you mean 'low_per_s'?",
        ),
        ("telemetry", "telemtry", "telemtry: unknown key. Did you mean 'telemetry'?"),
        (
            "device.idle_power_w",
            "device.idle_power",
            "device.idle_power: unknown key. Did you mean 'idle_power_w'?",
        ),
    ],
)
def test_misspelt_key_is_one_problem_with_the_nearest_key(tiny, path, misspelt, message):
    put(tiny, misspelt, pop(tiny, path))
    assert refusal(tiny) == f"site.yaml: {message}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("slo.quantile", "slo.quantile: missing. The keys here are: latency_ms, quantile"),
        ("schema", "schema: missing"),
        ("arrivals.kind", "arrivals.kind: missing"),
        (f"{LINK}.phases.0.rate_mbps", f"{LINK}.phases.0.rate_mbps: missing"),
        ("placements.0.service.p50_ms", "placements.0.service: lognormal needs p50_ms"),
    ],
)
def test_missing_key(tiny, path, message):
    pop(tiny, path)
    assert f"site.yaml: {message}" in refusal(tiny)


def test_key_of_another_form_is_refused_with_the_keys_of_this_one(tiny):
    tiny["zones"]["home"]["regions"] = ["france"]
    assert (
        refusal(tiny)
        == "site.yaml: zones.home.regions: unknown key. The keys here are: kind, carbon_g_per_kwh"
    )


def every_path(content: object, path: str = "") -> list[str]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    paths = []
    for key, value in pairs:
        paths.append(f"{path}{key}")
        if isinstance(value, dict | list):
            paths += every_path(value, f"{path}{key}.")
    return paths


def complaint(content: dict) -> str | None:
    try:
        validated(Scenario, content, "site.yaml")
    except ScenarioError as err:
        return str(err)
    return None


def test_no_wrong_value_anywhere_ends_in_anything_but_a_message(tiny):
    """Every value in turn becomes one of another type; each refusal starts with a path in the user's file."""
    parts = {field.alias or name for name, field in Scenario.model_fields.items()}
    refused = 0
    for path in every_path(tiny):
        for wrong in (None, True, -1, 1e400, "text", "", [], [{}], {}, {"a": 1}):
            content = copy.deepcopy(tiny)
            put(content, path, wrong)
            text = complaint(content)
            if text is not None:
                refused += 1
                first = text.partition("site.yaml: ")[2].partition("problems\n  ")
                assert re.split("[.: ]", first[2] or first[0])[0] in parts, f"{path} = {wrong!r}: {text}"
    assert refused > 700


def test_all_problems_are_listed_and_a_flood_is_cut(tiny):
    tiny["slo"]["latency_ms"] = -1
    tiny["slo"]["quantil"] = tiny["slo"].pop("quantile")
    lines = refusal(tiny).splitlines()
    assert lines[0] == "site.yaml: 2 problems"
    assert len(lines) == 3
    many = refusal({"schema": "carbonpilot/scenario/1"}).splitlines()
    assert len(many) == MAX_PROBLEMS + 2
    assert many[-1].strip().endswith("more")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slo: [1, 2\nname: x\n", "site.yaml, line 2, column"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: not valid YAML: duplicate key 'a' (first given in line 1)"),
        ("a:\n  b: 1\n  b: 2\n", "line 3, column 3: not valid YAML: duplicate key 'b'"),
        ("a:\n\tb: 1\n", "line 2, column 1"),
        ("", "expected keys and values (key: value), got nothing"),
        ("- 1\n- 2\n", "expected keys and values (key: value), got a list"),
        ("1: a\n", "line 1, column 1: not valid YAML: a key must be text"),
        ("a: !!python/object:os.system x\n", "line 1, column 4"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_broken_yaml_names_line_and_column(text, message):
    with pytest.raises(ScenarioError) as caught:
        parse_yaml(text, "site.yaml")
    assert message in str(caught.value)


def test_yaml_words_are_not_taken_for_something_else():
    text = "a: NO\nb: 12:30\nc: 2024-01-01\nd: 1e-3\ne: 010\nf: yes\ng: true\nh: .inf\ni:\nj: -5\nk: 0.5\n"
    assert parse_yaml(text, "x") == {
        "a": "NO",
        "b": "12:30",
        "c": "2024-01-01",
        "d": 0.001,
        "e": 10,
        "f": "yes",
        "g": True,
        "h": math.inf,
        "i": None,
        "j": -5,
        "k": 0.5,
    }


def test_an_anchor_is_taken_over_and_overridden_once():
    text = "a: &base\n  x: 1\n  deep: {y: 2}\nb:\n  <<: *base\n  x: 3\nc:\n  <<: *base\n"
    base = {"x": 1, "deep": {"y": 2}}
    assert parse_yaml(text, "x") == {"a": base, "b": {**base, "x": 3}, "c": base}
    with pytest.raises(ScenarioError, match="line 7, column 3: not valid YAML: duplicate key 'x'"):
        parse_yaml(text.replace("c:", "  x: 4\nc:"), "x")


def test_unknown_name_offers_the_nearest(monkeypatch, tmp_path):
    monkeypatch.setattr("carbonpilot.envs.scenario.SCENARIOS", tmp_path)
    (tmp_path / "metro.yaml").write_text("")
    with pytest.raises(InputError, match=r"Unknown scenario 'metr'\. Did you mean 'metro'\?"):
        load_scenario("metr")
    assert shipped_scenarios() == ["metro"]


def test_a_path_that_is_no_scenario(tmp_path, tiny):
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(tiny))
    with pytest.raises(InputError, match=r"There is no file .*sit\.yaml\. Did you mean 'site\.yaml'\?"):
        load_scenario(tmp_path / "sit.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        load_scenario(tmp_path / "folder.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        load_scenario(tmp_path / "binary.yaml")
