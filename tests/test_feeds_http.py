"""Feeds against a server with the sources' answers, over real HTTP: what is believed and what is refused."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, quote_plus

import pytest

pytest.importorskip("httpx")

from carbonpilot.envs.errors import InputError
from carbonpilot.real.clock import ManualClock, SystemClock
from carbonpilot.real.feeds import ElectricityMaps, FeedError, GbCarbonIntensity, WattTime, make_feed
from carbonpilot.real.feeds.http_source import Patience
from carbonpilot.real.feeds.mock import MockGrid, forms
from carbonpilot.real.feeds.secret import Secret, redacted

CALM = Patience(attempts=2, backoff_s=0.01)  # nothing fails because this machine is busy
QUICK = Patience(connect_s=0.5, read_s=0.15, total_s=0.25, attempts=2, backoff_s=0.01)
HASTE = {"silent": QUICK, "slow": QUICK}  # where waiting is all that happens
SECRETS = {
    "CARBONPILOT_ELECTRICITYMAPS_TOKEN": "em-Tok3n/+with=signs",
    "CARBONPILOT_WATTTIME_USER": "somebody@example.org",
    "CARBONPILOT_WATTTIME_PASSWORD": "pass W0rd/+?",
}
CASES = [
    (ElectricityMaps, "US-CAL-CISO"),
    (GbCarbonIntensity, "GB"),
    (GbCarbonIntensity, "GB-13"),
    (GbCarbonIntensity, "GB-OX1"),
    (WattTime, "CAISO_NORTH"),
]
# Scenario -> cause, for every feed; None where only some feeds fail.
CAUSES = {
    "silent": "timeout",
    "slow": "timeout",
    "zero": "invalid-value",
    "negative": "invalid-value",
    "absurd": "invalid-value",
    "nan": "malformed",
    "stale": "stale",
    "future": "invalid-value",
    "wrong-zone": "wrong-zone",
    "malformed": "malformed",
    "cut-off": "malformed",
    "empty": "malformed",
    "down": "server-error",
    "busy": "rate-limited",
    "redirect": "not-covered",
}


@pytest.fixture(autouse=True)
def secrets_in_environment(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def grid():
    with MockGrid("ok", delay_s=5.0) as server:
        yield server


def feed_of(cls, grid, clock=None, **options):
    return cls(
        clock or SystemClock(),
        base_url=grid.url,
        patience=options.pop("patience", HASTE.get(grid.scenario, CALM)),
        **options,
    )


def fetch(cls, grid, zone, **options):
    feed = feed_of(cls, grid, **options)
    try:
        return feed.fetch(zone)
    finally:
        feed.close()


@pytest.mark.parametrize(("cls", "zone"), CASES)
def test_a_good_answer_becomes_a_reading(grid, cls, zone):
    reading = fetch(cls, grid, zone)
    assert reading.carbon_g_per_kwh == pytest.approx(187.0, rel=1e-6)
    assert (reading.zone, reading.source, reading.restored) == (zone, cls.name, False)
    assert reading.kind == ("marginal" if cls is WattTime else "average")
    assert reading.measured_at.utcoffset() == timedelta(0)
    assert 0 <= reading.age_when_received_s < 3600
    # Only a measured value is not flagged: regions of GB and WattTime's current rate are forecasts.
    assert reading.estimated == (zone not in ("GB", "US-CAL-CISO"))


@pytest.mark.parametrize(("cls", "zone"), CASES)
@pytest.mark.parametrize("scenario", CAUSES)
def test_a_bad_answer_is_an_error_and_never_a_number(grid, cls, zone, scenario):
    grid.scenario = scenario
    with pytest.raises(FeedError) as caught:
        fetch(cls, grid, zone)
    assert caught.value.cause == CAUSES[scenario]
    assert (caught.value.source, caught.value.zone) == (cls.name, zone)
    assert caught.value.said in str(caught.value)
    assert caught.value.mend in str(caught.value)


@pytest.mark.parametrize(("cls", "zone"), CASES)
@pytest.mark.parametrize("scenario", ["text", "null"])
def test_no_number_is_refused(grid, cls, zone, scenario):
    grid.scenario = scenario
    with pytest.raises(FeedError) as caught:
        fetch(cls, grid, zone)
    assert caught.value.cause in ("invalid-value", "malformed")
    assert ("'n/a'" if scenario == "text" else "None") in str(caught.value)


def test_every_scenario_is_tested():
    assert set(forms.SCENARIOS) == set(CAUSES) | {
        "ok",
        "estimated",
        "sandbox",
        "expired",
        "flaky",
        "text",
        "null",
    }


def test_the_message_names_what_came(grid):
    grid.scenario = "absurd"
    with pytest.raises(FeedError, match=r"from 1 to 2000, got 123456\. No grid is that dirty"):
        fetch(ElectricityMaps, grid, "DE")
    grid.scenario = "nan"
    with pytest.raises(FeedError, match="NaN is not JSON"):
        fetch(ElectricityMaps, grid, "DE")
    grid.scenario = "wrong-zone"
    with pytest.raises(FeedError, match="asked for 'DE', the answer is for 'XX'"):
        fetch(ElectricityMaps, grid, "DE")


def test_zero_is_accepted_only_where_somebody_said_that_it_is_real(grid):
    grid.scenario = "zero"
    assert fetch(WattTime, grid, "CAISO_NORTH", zero_is_real=True).carbon_g_per_kwh == 0.0
    grid.scenario = "negative"
    with pytest.raises(FeedError, match="got -25"):
        fetch(WattTime, grid, "CAISO_NORTH", zero_is_real=True)


def test_a_number_in_kg_is_refused(grid):
    grid.carbon_g_per_kwh = 0.187
    with pytest.raises(FeedError, match=r"got 0\.187"):
        fetch(GbCarbonIntensity, grid, "GB")


def test_estimated_is_passed_on(grid):
    grid.scenario = "estimated"
    reading = fetch(ElectricityMaps, grid, "DE")
    assert reading.estimated
    assert "TIME_SLICER_AVERAGE" in reading.note
    assert fetch(GbCarbonIntensity, grid, "GB").estimated


def test_made_up_numbers_of_the_sandbox_are_refused(grid):
    grid.scenario = "sandbox"
    with pytest.raises(FeedError, match="made up"):
        fetch(ElectricityMaps, grid, "DE")


def test_factors_are_asked_for_and_told(grid):
    assert fetch(ElectricityMaps, grid, "DE").factors == "lifecycle"
    assert fetch(ElectricityMaps, grid, "DE", factors="direct").factors == "direct"
    with pytest.raises(InputError, match="'lifecycle' and 'direct'"):
        ElectricityMaps(factors="both")


def test_watttime_takes_the_point_of_now_and_its_unit(grid):
    """The later points are 50 lb/MWh higher; 1 lb is 453.59237 g."""
    grid.carbon_g_per_kwh = 400.0
    assert fetch(WattTime, grid, "CAISO_NORTH").carbon_g_per_kwh == pytest.approx(400.0, rel=1e-6)


def test_watttime_logs_in_once_and_again_when_the_token_is_old(grid):
    clock = ManualClock(datetime.now(timezone.utc))
    feed = feed_of(WattTime, grid, clock)
    for _ in range(3):
        feed.fetch("CAISO_NORTH")
    assert grid.requests.count("/login") == 1
    clock.advance(26 * 60)
    feed.fetch("CAISO_NORTH")
    assert grid.requests.count("/login") == 2
    feed.close()


def test_watttime_logs_in_again_when_the_token_is_refused_but_only_once(grid):
    grid.scenario = "expired"
    assert fetch(WattTime, grid, "CAISO_NORTH").carbon_g_per_kwh == pytest.approx(187.0, rel=1e-6)
    assert grid.requests == ["/login", "/v3/forecast", "/login", "/v3/forecast"]


def test_wrong_credentials_are_told_with_their_variables():
    with MockGrid(token="another", login=("a", "b")) as grid:
        with pytest.raises(FeedError, match="CARBONPILOT_ELECTRICITYMAPS_TOKEN") as caught:
            fetch(ElectricityMaps, grid, "DE")
        assert caught.value.cause == "refused"
        with pytest.raises(FeedError, match="CARBONPILOT_WATTTIME_PASSWORD"):
            fetch(WattTime, grid, "CAISO_NORTH")
        assert grid.requests == ["/v3/carbon-intensity/latest", "/login"]  # asking again would not help
    login = (SECRETS["CARBONPILOT_WATTTIME_USER"], SECRETS["CARBONPILOT_WATTTIME_PASSWORD"])
    with MockGrid(token=SECRETS["CARBONPILOT_ELECTRICITYMAPS_TOKEN"], login=login) as grid:
        fetch(ElectricityMaps, grid, "DE")
        fetch(WattTime, grid, "CAISO_NORTH")


def test_a_failing_server_is_asked_again(grid):
    grid.scenario = "flaky"
    patience = Patience(attempts=3, backoff_s=0.01)
    assert fetch(GbCarbonIntensity, grid, "GB", patience=patience).carbon_g_per_kwh == 187.0
    assert len(grid.requests) == 3


def test_a_busy_source_is_left_alone_until_it_said(grid):
    clock = ManualClock(datetime.now(timezone.utc))
    feed = feed_of(GbCarbonIntensity, grid, clock)
    grid.scenario = "busy"
    with pytest.raises(FeedError) as caught:
        feed.fetch("GB")
    assert caught.value.retry_after_s == 120
    grid.scenario = "ok"
    clock.advance(119)
    with pytest.raises(FeedError, match="may be asked again in 1 s"):
        feed.fetch("GB")
    assert len(grid.requests) == 1
    clock.advance(2)
    assert feed.fetch("GB").carbon_g_per_kwh == 187.0
    feed.close()


def test_the_own_limit_holds(grid):
    clock = ManualClock(datetime.now(timezone.utc))
    feed = feed_of(GbCarbonIntensity, grid, clock)
    allowed, window_s = feed.requests_per_window
    for _ in range(allowed):
        feed.fetch("GB")
    with pytest.raises(FeedError) as caught:
        feed.fetch("GB")
    assert caught.value.cause == "rate-limited"
    assert len(grid.requests) == allowed
    clock.advance(window_s)
    feed.fetch("GB")
    feed.close()


def test_nobody_there():
    with MockGrid() as grid:
        url = grid.url
    feed = GbCarbonIntensity(base_url=url, patience=QUICK)
    with pytest.raises(FeedError, match=r"cannot reach 127\.0\.0\.1") as caught:
        feed.fetch("GB")
    assert caught.value.cause == "unreachable"
    feed.close()


def test_a_wrong_clock_here_does_not_age_a_fresh_reading(grid):
    """Ages are taken against the source's Date header."""
    clock = ManualClock(datetime.now(timezone.utc) - timedelta(days=400))
    reading = fetch(GbCarbonIntensity, grid, "GB", clock=clock)
    assert 0 <= reading.age_when_received_s < 1860


@pytest.mark.parametrize("zone", ["FR", "GB-0", "GB-18", "GB-", "GB-ox1", "GB-OX1 3QD", "GB-../x", ""])
def test_gb_knows_its_zones(grid, zone):
    with pytest.raises(FeedError) as caught:
        fetch(GbCarbonIntensity, grid, zone)
    assert caught.value.cause == "not-covered"
    assert grid.requests == []


@pytest.mark.parametrize("cls", [ElectricityMaps, WattTime])
def test_a_missing_secret_is_an_input_error(monkeypatch, cls):
    for name in SECRETS:
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match=r"CARBONPILOT_.* in the environment"):
        cls()


def test_a_broken_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("CARBONPILOT_ELECTRICITYMAPS_TOKEN", "abc\ndef")
    with pytest.raises(InputError) as caught:
        ElectricityMaps()
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://api.electricitymaps.com", "https://user:pw@host", "ftp://host", "host", "https://"]
)
def test_addresses_that_would_leak_are_refused(url):
    with pytest.raises(InputError) as caught:
        ElectricityMaps(base_url=url)
    assert "pw" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("scenario", sorted(forms.SCENARIOS))
@pytest.mark.parametrize(("cls", "zone"), [CASES[0], CASES[4]])
def test_secrets_are_shown_nowhere(grid, caplog, cls, zone, scenario):
    """Not in logs at any level, reprs, messages or tracebacks, though the server sends the token back."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "carbonpilot"):
        caplog.set_level(logging.DEBUG, logger=name)
    grid.scenario = scenario
    feed = feed_of(cls, grid)
    seen = [repr(feed), repr(vars(feed)), repr(vars(feed.source)["base_url"])]
    try:
        seen.append(repr(feed.fetch(zone)))
    except FeedError as err:
        seen += [str(err), repr(err), repr(vars(err)), "".join(traceback.format_exception(err))]
        seen.append(repr(err.__cause__))
    feed.close()
    seen += [caplog.text, *(repr(vars(record)) for record in caplog.records)]
    said = "\n".join(seen)
    for secret in [*SECRETS.values(), *grid.tokens]:
        assert secret not in said


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_no_thread_and_no_descriptor_is_left():
    with MockGrid() as grid:
        fetch(GbCarbonIntensity, grid, "GB")  # what is imported late may open files
    before, threads = open_descriptors(), threading.active_count()
    for scenario in ("ok", "silent", "malformed", "slow", "busy", "down"):
        with MockGrid(scenario, delay_s=5.0) as grid:
            for cls, zone in (CASES[0], CASES[4]):
                with contextlib.suppress(FeedError):
                    fetch(cls, grid, zone)
    assert (open_descriptors(), threading.active_count()) == (before, threads)


def test_feeds_by_name():
    assert make_feed("gb-carbon-intensity").name == "gb-carbon-intensity"
    with pytest.raises(InputError, match="Did you mean 'watttime'"):
        make_feed("wattime")
    with pytest.raises(InputError, match="Files belong to csv-replay"):
        make_feed("country-default", files={"GB": "x.csv"})


WITHOUT_HTTPX = """
import sys

sys.modules["httpx"] = None
from carbonpilot.envs.errors import MissingExtraError
from carbonpilot.real.feeds import CountryDefault, GbCarbonIntensity

assert CountryDefault().fetch("GB").carbon_g_per_kwh > 0
try:
    GbCarbonIntensity()
except MissingExtraError as err:
    print(err)
"""


def test_without_httpx_the_offline_feeds_work_and_the_others_say_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_HTTPX], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "pip install 'carbonpilot[device]'" in done.stdout


@pytest.mark.parametrize("secret", ["a b/+", 'quo"te\\back', "it's", "per%cent"])
def test_redaction_knows_how_a_secret_may_be_written(secret):
    written = [
        secret,
        repr(secret),
        json.dumps(secret),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    ]
    said = redacted(" ".join(written), [secret, ""])
    for form in written:
        assert form.strip("'\"") not in said
    assert repr(Secret(secret)) == str(Secret(secret)) == f"{Secret(secret)}" == "[hidden]"
    with pytest.raises(TypeError):
        pickle.dumps(Secret(secret))
