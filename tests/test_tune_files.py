"""Files of tuned parameters: whole or not at all, kept together, refused with the reason where they do not fit."""

import pytest
import yaml

from carbonpilot.agents.rule_parameters import tuned_parameters, tuned_rules
from carbonpilot.agents.tune import run_tune
from carbonpilot.agents.tune_options import TuneOptions
from carbonpilot.agents.tuned_file import read_tuned
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario

SMALL = {"trials": 20, "search_tapes": 6, "selection_tapes": 6}


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, shortened):
    path, _ = shortened()
    out = tmp_path / "a.yaml"
    run_tune(str(path), ["rtt-threshold"], out, options=TuneOptions(**SMALL))
    before = out.read_bytes()

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(Exception, match="disk is full"):
        run_tune(str(path), ["cleanest-zone-slo"], out, options=TuneOptions(**SMALL))
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.yaml", "metro.yaml"]


def test_rules_tuned_before_stay_beside_the_new_ones(tmp_path, shortened):
    path, _ = shortened()
    out = tmp_path / "a.yaml"
    first = run_tune(str(path), ["rtt-threshold"], out, options=TuneOptions(**SMALL))
    second = run_tune(str(path), ["cleanest-zone-slo"], out, options=TuneOptions(**SMALL))
    assert second["policies"]["rtt-threshold"] == first["policies"]["rtt-threshold"]
    assert set(second["policies"]) == {"rtt-threshold", "cleanest-zone-slo"}


def test_a_file_for_another_scenario_is_refused_with_the_reason(tmp_path, shortened):
    path, scenario = shortened()
    out = tmp_path / "a.yaml"
    run_tune(str(path), ["rtt-threshold"], out, options=TuneOptions(**SMALL))
    with pytest.raises(InputError, match="tuned for scenario 'metro', not for 'drive-b4'"):
        tuned_parameters(load_scenario("drive-b4"), out)
    with pytest.raises(InputError, match=r"another version of 'metro' \(scenario_sha256"):
        tuned_parameters(load_scenario("metro"), out)
    with pytest.raises(InputError, match="remove it first"):
        run_tune("metro", ["rtt-threshold"], out, options=TuneOptions(**SMALL))
    assert tuned_rules(scenario, out).parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "carbonpilot/tuned/2"}, "schema: expected 'carbonpilot/tuned/1'"),
        ({"polices": {}}, "unknown key 'polices'. Did you mean 'policies'"),
        ({"scenario_sha256": None}, "scenario_sha256: missing"),
        (
            {"policies": {"bandit": {"parameters": {"spread_ms": "wide"}}}},
            "spread_ms: expected a number, got 'wide'",
        ),
        ({"policies": {"bandit": 3}}, "policies.bandit.parameters: expected"),
        ({"policies": []}, "policies: expected one entry"),
    ],
)
def test_broken_files_are_refused(tmp_path, change, message):
    content = {
        "schema": "carbonpilot/tuned/1",
        "scenario": "metro",
        "scenario_sha256": "0" * 64,
        "policies": {},
    }
    content = {key: value for key, value in (content | change).items() if value is not None}
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        read_tuned(file)
