"""The real recordings, where they are present, and the commands that show them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError, TraceEndedError
from carbonpilot.envs.streams import Stream, episode_keys
from carbonpilot.envs.traces import check_file, read_grid, read_network, summarise, trace_folder
from carbonpilot.envs.traces.commands import check_command, summary_command
from carbonpilot.envs.traces.library import GridLibrary, NetworkLibrary

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the recordings (../shared/data) are not on this machine")
GOOD = "time_s,rtt_ms,loss_pct,down_mbps,up_mbps\n0,30,0,,\n1,,100,,\n"


@real
def test_all_48_recordings_pass_the_check():
    found = trace_folder(DATA)
    assert {kind: len(files) for kind, files in found.items()} == {"grid": 11, "network": 33, "arrivals": 4}
    for path in (p for files in found.values() for p in files):
        assert [d for d in check_file(path) if d.severity == "error"] == []


# min, median, max from the tables of the folder's README
TABLE = [
    ("grid/AU-NSW_2022-2023.csv", "carbon_g_per_kwh", 186.6, 612.6, 798.3),
    ("grid/DE_2022-2023.csv", "carbon_g_per_kwh", 126.8, 422.15, 768.8),
    ("grid/US-EIA-BPAT_2022.csv", "carbon_g_per_kwh", 22.2, 55.5, 113.7),
    ("grid/SG_2022-2023.csv", "low_carbon_pct", 0.5, 2.9, 11.8),
    ("network/5g_rural_n8.csv", "rtt_ms", 18, 35.1, 30017.9),
    ("network/us_drive_2023-05-14_verizon.csv", "rtt_ms", 45.9, 63.1, 5721),
    ("network/starlink_kiel_2024-12-12.csv", "loss_pct", 0, 0, 37.5),
    ("network/capacity_lte_att_drive.csv", "up_mbps", 0, 1.07, 1.24),
    ("network/cell_static.csv", "down_mbps", 0, 23.58, 333.07),
    ("arrivals/azure_llm_code_2023-11-16.csv", "input_tokens", 3, 1469, 7437),
    ("arrivals/servegen_language_small.csv", "rate_req_per_s", 391.27, 1165.15, 3879.51),
]


@real
@pytest.mark.parametrize(("file", "column", "low", "median", "high"), TABLE)
def test_summary_agrees_with_the_published_tables(file, column, low, median, high):
    row = summarise(DATA / file)["columns"][column]
    np.testing.assert_allclose([row["min"], row["median"], row["max"]], [low, median, high], atol=0.0051)


@real
def test_summary_facts():
    grid = summarise(DATA / "grid/SG_2022-2023.csv")
    assert (grid["rows"], grid["step_s"], grid["gaps"], grid["start"]) == (
        17520,
        3600,
        0,
        "2022-01-01T00:00:00Z",
    )
    assert grid["estimated_share"] == pytest.approx(0.083, abs=0.0005)
    assert summarise(DATA / "grid/US-EIA-SOCO_2022.csv")["estimated_share"] is None, "not stated is not zero"
    drive = summarise(DATA / "network/us_drive_2023-08-05_verizon.csv")
    assert (drive["rows"], drive["segments"]) == (1680, 56)
    assert drive["outage_share"] == pytest.approx(0.0381, abs=0.0001)


@real
def test_real_traces_end():
    grid = read_grid(DATA / "grid/GB_2022-2023.csv").truth()
    assert grid.at(grid.end_s - 1) > 0
    with pytest.raises(TraceEndedError):
        grid.at(grid.end_s)
    rtt = read_network(DATA / "network/us_drive_2023-05-13_att.csv").signal("rtt_ms")
    assert rtt.at(0.0) == 65.5
    with pytest.raises(TraceEndedError):
        rtt.at(1650.0)


@real
def test_metro_libraries_load_quickly():
    patterns = [
        "network/us_drive_*.csv",
        "network/starlink_kiel_*.csv",
        "network/5g_*.csv",
        "network/capacity_*.csv",
    ]
    start = time.process_time()  # one thread: the CPU's time says what loading costs on a busy machine too
    library = NetworkLibrary.load(DATA, patterns)
    assert time.process_time() - start < 1.5
    world = library.draw_windows(Stream(episode_keys(range(256)), "link:x"), 130, 256)
    for name in ("rtt_ms", "jitter_ms", "loss", "rate_shape"):
        values = getattr(world, name)
        assert np.isfinite(values).all()
        assert (values >= 0).all()
    assert (world.loss <= 1).all()
    assert (world.rtt_ms <= 2000).all()
    assert 0.7 < np.median(world.rate_shape) < 1.3


@real
def test_real_grid_split_by_date():
    date = "2022-09-24T16:00:00Z"
    early, late = (GridLibrary.load(DATA, ["grid/US-EIA-*.csv"], **{k: date}) for k in ("before", "from_"))
    assert early.unix_hour.max() + 1 == late.unix_hour.min()
    windows = late.draw(Stream(episode_keys(range(100)), "zone:x"), 5, 100)
    assert np.isfinite(windows.truth_g_per_kwh).all()
    assert not windows.estimated.any()


def test_trace_folder_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="no such trace folder"):
        trace_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no trace.*it is empty"):
        trace_folder(tmp_path)
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "INDEX.csv").write_text("file\n")
    with pytest.raises(InputError, match=r"holds no trace.*found: grid"):
        trace_folder(tmp_path)
    with pytest.raises(InputError, match="this is a file"):
        trace_folder(tmp_path / "grid" / "INDEX.csv")


def test_check_command_exit_codes(tmp_path, capsys):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(GOOD)
    bad.write_text(GOOD + "2,-1,0,,\n")
    assert check_command([good]) == 0
    assert capsys.readouterr().out == f"{good}: ok\n"
    assert check_command([good, bad]) == 1
    assert f"{bad}:4: column 'rtt_ms': error: -1 is negative" in capsys.readouterr().out
    assert check_command([bad, tmp_path / "none.csv"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert check_command([tmp_path]) == 2, "a folder without grid/, network/, arrivals/"


def test_commands_take_a_folder(tmp_path, capsys):
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "a.csv").write_text(GOOD)
    assert check_command([tmp_path]) == 0
    assert "a.csv: ok" in capsys.readouterr().out


def test_summary_command_writes_json(tmp_path, capsys):
    good, out = tmp_path / "good.csv", tmp_path / "out" / "summary.json"
    good.write_text(GOOD)
    assert summary_command([good], json=out) == 0
    assert "2 rows" in capsys.readouterr().out
    (summary,) = json.loads(out.read_text())["files"]
    assert (summary["rows"], summary["outage_share"]) == (2, 0.5)
    assert summary["columns"]["rtt_ms"]["empty"] == 0.5
    good.write_text(GOOD + "2,x,0,,\n")
    assert summary_command([good]) == 2
    assert "good.csv:4: column 'rtt_ms'" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [False, True])
def test_tables_on_a_terminal(tmp_path, capsys, monkeypatch, terminal):
    bad = tmp_path / "bad.csv"
    bad.write_text(GOOD + "2,-1,0,,\n")
    monkeypatch.setenv("COLUMNS", "200")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    check_command([bad])
    out = capsys.readouterr().out
    assert ("\x1b[" in out) is terminal
    assert "-1 is negative" in out
