"""Feeds without network: recordings, and the table of countries; and the mock server's command line."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import signal
import subprocess
import sys
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import pytest

from carbonpilot.envs.errors import InputError, TraceError
from carbonpilot.real.clock import ManualClock
from carbonpilot.real.feeds import CountryDefault, CsvReplay, FeedError
from carbonpilot.real.feeds.country_table import AVERAGES, CODECARBON_VERSION
from carbonpilot.real.feeds.mock import MockGrid, main

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
CSV = """utc_time,carbon_g_per_kwh,estimated
2022-01-01T00:00:00Z,100,0
2022-01-01T01:00:00Z,200,1
2022-01-01T02:00:00Z,,0
2022-01-01T03:00:00Z,0,0
2022-01-01T05:00:00Z,300,0
"""


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "place.csv"
    path.write_text(CSV)
    return path


def test_a_recording_passes_at_the_clocks_pace(clock, recording):
    feed = CsvReplay({"HOME": recording}, clock)
    first = feed.fetch("HOME")
    assert (first.carbon_g_per_kwh, first.estimated, first.age_when_received_s) == (100.0, False, 0.0)
    clock.advance(3600 + 600)
    second = feed.fetch("HOME")
    assert (second.carbon_g_per_kwh, second.estimated, second.age_when_received_s) == (200.0, True, 600.0)
    assert second.measured_at == datetime(2026, 3, 1, 13, tzinfo=timezone.utc)
    assert second.note == "place.csv at 2022-01-01T01:00:00Z"


@pytest.mark.parametrize(
    ("hours", "cause", "said"),
    [
        (2, "not-covered", "nothing was measured"),
        (3, "invalid-value", "got 0.0"),
        (4.5, "not-covered", "has a gap"),
        (6, "not-covered", "has ended"),
        (1000, "not-covered", "has ended"),
    ],
)
def test_holes_of_a_recording_are_errors(clock, recording, hours, cause, said):
    feed = CsvReplay({"HOME": recording}, clock)
    clock.advance(hours * 3600)
    with pytest.raises(FeedError, match=said) as caught:
        feed.fetch("HOME")
    assert caught.value.cause == cause


def test_a_replay_starts_where_it_is_told(clock, recording):
    feed = CsvReplay({"HOME": recording}, clock, start=datetime(2022, 1, 1, 5, 30, tzinfo=timezone.utc))
    assert feed.fetch("HOME").carbon_g_per_kwh == 300.0
    with pytest.raises(InputError, match="covers 2022-01-01T00:00:00Z to 2022-01-01T06:00:00Z"):
        CsvReplay({"HOME": recording}, clock, start=datetime(2023, 1, 1, tzinfo=timezone.utc))
    with pytest.raises(InputError, match="time zone"):
        CsvReplay({"HOME": recording}, clock, start=datetime(2022, 1, 1))


def test_a_zone_is_the_files_own(clock, tmp_path, recording):
    path = tmp_path / "export.csv"
    header = "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (Life cycle)"
    path.write_text(
        f"{header}\n2022-01-01 00:00:00,Germany,Germany,DE,400\n2022-01-01 01:00:00,Germany,Germany,DE,410\n"
    )
    reading = CsvReplay({"DE": path}, clock).fetch("DE")
    assert (reading.carbon_g_per_kwh, reading.factors) == (400.0, "lifecycle")
    with pytest.raises(InputError, match="zone 'DE', not of 'FR'"):
        CsvReplay({"FR": path}, clock)
    with pytest.raises(FeedError, match="files for HOME"):
        CsvReplay({"HOME": recording}, clock).fetch("AWAY")


def test_a_replay_of_the_mocks_own_answers_of_gb(clock, tmp_path):
    path = tmp_path / "gb.json"
    with MockGrid() as grid, urllib.request.urlopen(f"{grid.url}/intensity") as answer:
        path.write_bytes(answer.read())
    assert CsvReplay({"GB": path}, clock).fetch("GB").carbon_g_per_kwh == 187.0


def test_broken_files_are_refused_at_the_start(clock, tmp_path):
    with pytest.raises(InputError):
        CsvReplay({}, clock)
    with pytest.raises(InputError):
        CsvReplay({"A": tmp_path / "none.csv"}, clock)
    (tmp_path / "bad.csv").write_text("utc_time,carbon_g_per_kwh\n2022-01-01T00:00:00Z,-5\n")
    with pytest.raises(TraceError, match="negative"):
        CsvReplay({"A": tmp_path / "bad.csv"}, clock)


def test_a_country_has_its_yearly_average_with_its_age(clock):
    reading = CountryDefault(clock).fetch("GB")
    assert (reading.carbon_g_per_kwh, reading.estimated, reading.kind) == (237.589, True, "average")
    assert "United Kingdom" in reading.note
    assert "in 2023; 2.2 years old; from codecarbon 3.3.2" in reading.note
    assert reading.age_when_received_s == (START - datetime(2024, 1, 1, tzinfo=timezone.utc)).total_seconds()
    assert CountryDefault(clock).fetch("GBR").carbon_g_per_kwh == 237.589
    assert "not of the zone US-CAL-CISO alone" in CountryDefault(clock).fetch("US-CAL-CISO").note


@pytest.mark.parametrize("zone", ["", "XX", "CAISO_NORTH", "World", "gb"])
def test_an_unknown_country_gets_no_world_average(clock, zone):
    with pytest.raises(FeedError) as caught:
        CountryDefault(clock).fetch(zone)
    assert caught.value.cause == "not-covered"


def test_the_table_is_what_codecarbon_ships():
    found = importlib.util.find_spec("codecarbon")
    if found is None or importlib.metadata.version("codecarbon") != CODECARBON_VERSION:
        pytest.skip(f"codecarbon {CODECARBON_VERSION} is not installed")
    (folder,) = found.submodule_search_locations
    shipped = json.loads((Path(folder) / "data/private_infra/global_energy_mix.json").read_text())
    for _, iso3, country, carbon_g_per_kwh, year in AVERAGES:
        row = shipped[iso3]
        assert (country, carbon_g_per_kwh, year) == (
            row["country_name"],
            row["carbon_intensity"],
            row["year"],
        )


def test_the_table_names_each_country_once():
    codes = [code for row in AVERAGES for code in row[:2]]
    assert len(set(codes)) == len(codes)
    assert all(1 < row[3] < 1000 for row in AVERAGES)


def test_the_mock_runs_on_the_command_line():
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "carbonpilot.real.feeds.mock",
        "--port",
        "0",
        "--scenario",
        "zero",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}/intensity", timeout=10) as answer:
            assert json.load(answer)["data"][0]["intensity"]["actual"] == 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_taken_port_is_told(capsys):
    with MockGrid() as grid:
        assert main(["--port", grid.url.rpartition(":")[2]]) == 2
    assert "Choose another with --port" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unknown scenario 'odd'"):
        MockGrid("odd")
