"""What calibrate keeps of each number, and that nothing is guessed."""

from __future__ import annotations

import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import scenario_dict
from carbonpilot.real.calibrate.ledger import GIVEN, Ledger, parse_assumptions
from carbonpilot.real.calibrate.statistics import Estimate

RATE = "links.uplink.source.phases.0.rate_mbps"


@pytest.fixture
def content(tiny_scenario):
    return scenario_dict(tiny_scenario())


def test_a_measured_number_replaces_the_base(content):
    ledger = Ledger(content, {})
    ledger.measured(RATE, Estimate(42.0, 40.0, 44.0, 7), "by hand")
    assert ledger.scenario["links"]["uplink"]["source"]["phases"][0]["rate_mbps"] == 42.0
    assert content["links"]["uplink"]["source"]["phases"][0]["rate_mbps"] == 50
    number = ledger.numbers[RATE]
    assert (number.kind, number.low, number.high, number.count) == ("measured", 40.0, 44.0, 7)


def test_what_is_missing_is_named_with_its_option(content):
    ledger = Ledger(content, {})
    ledger.could_not([RATE, "payload.low_kb"], "no echo server")
    with pytest.raises(InputError) as error:
        ledger.check_complete()
    assert f"{RATE}: no echo server" in str(error.value)
    assert f"--assume {RATE}=VALUE" in str(error.value)
    assert "2 numbers could not be measured, and nothing is guessed" in str(error.value)


def test_an_assumption_fills_the_gap_and_is_marked(content):
    ledger = Ledger(content, {RATE: 33})
    ledger.could_not([RATE], "no echo server")
    ledger.check_complete()
    assert ledger.numbers[RATE].kind == "assumed"
    assert ledger.numbers[RATE].method == GIVEN
    assert ledger.scenario["links"]["uplink"]["source"]["phases"][0]["rate_mbps"] == 33


def test_an_assumption_beats_a_measurement_and_says_so(content):
    ledger = Ledger(content, {RATE: 33})
    ledger.measured(RATE, Estimate(42.0, 40.0, 44.0, 7), "by hand")
    assert ledger.numbers[RATE].value == 33
    assert "measured as 42" in ledger.notes[0]


def test_a_part_that_is_assumed_covers_what_is_in_it(content):
    service = {"distribution": "deterministic", "mean_ms": 12.5}
    ledger = Ledger(content, {"placements.1.service": service})
    assert ledger.touched("placements.1.service")
    assert ledger.assumed("placements.1.service.p50_ms")
    assert ledger.numbers["placements.1.service.mean_ms"].value == 12.5


def test_a_part_may_be_removed(content):
    content["device"]["radio"] = {"transmit_power_w": 2, "tail_power_w": 1, "tail_s": 4}
    assert "radio" not in Ledger(content, {"device.radio": None}).scenario["device"]


def test_everything_else_is_recorded_as_assumed(content):
    ledger = Ledger(content, {})
    ledger.assume_rest("the base scenario's number (tiny)")
    assert ledger.numbers["nodes.edge.pue"].kind == "assumed"
    assert ledger.numbers["device.idle_power_w"].value == 4
    assert not any(key.startswith(("reward.", "slo.", "arrivals.")) for key in ledger.numbers)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("links.uplnk.transfer", "Did you mean 'uplink'"),
        ("placements.7.service.mean_ms", "from 0 to 1"),
        ("nodes.edge.pue.more", "no part of the scenario that holds keys"),
    ],
)
def test_unknown_keys_are_refused(content, key, said):
    with pytest.raises(InputError, match=said):
        Ledger(content, {key: 1})


@pytest.mark.parametrize("text", ["novalue", "=3", "key=", "key= "])
def test_a_malformed_assumption_is_refused(text):
    with pytest.raises(InputError, match="KEY=VALUE"):
        parse_assumptions([text])


def test_values_are_read_as_yaml():
    found = parse_assumptions(["a.b=1.5", "c=null", "d={distribution: deterministic, mean_ms: 3}", "e=no"])
    assert found == {"a.b": 1.5, "c": None, "d": {"distribution": "deterministic", "mean_ms": 3}, "e": "no"}
