"""Every defect is named by file, line and column; readers refuse what check_file calls an error."""

from __future__ import annotations

import pytest

from carbonpilot.envs.errors import InputError, TraceError
from carbonpilot.envs.traces import check_file, read_trace
from carbonpilot.envs.traces.defects import MAX_LISTED

GRID = "utc_time,carbon_g_per_kwh,low_carbon_pct,estimated"
NETWORK = "time_s,rtt_ms,loss_pct,down_mbps,up_mbps"


def grid(*rows: str, header: str = GRID) -> str:
    return "\n".join([header, *rows]) + "\n"


def hour(h: int, rest: str = "100,50,0") -> str:
    return f"2022-01-{1 + h // 24:02d}T{h % 24:02d}:00:00Z,{rest}"


def network(*rows: str, header: str = NETWORK) -> str:
    return "\n".join([header, *rows]) + "\n"


# name: (text, line, column, what the message says)
ERRORS = {
    "missing column": (
        network("0,1,2,3", header="time_s,rtt_mss,loss_pct,down_mbps"),
        1,
        "rtt_ms",
        "'rtt_mss'",
    ),
    "second missing column": (
        network("0,1,2,3", header="time_s,rtt_mss,loss_pct,down_mbps"),
        1,
        "up_mbps",
        "miss",
    ),
    "not a number": (network("0,30,0,,", "1,fast,0,,"), 3, "rtt_ms", "'fast' is not a number"),
    "underscore": (network("0,30,0,,", "1,1_0,0,,"), 3, "rtt_ms", "'1_0' is not a number"),
    "decimal comma": (network('0,"30,5",0,,'), 2, "rtt_ms", "decimal point"),
    "negative": (network("0,30,0,,", "1,-3,0,,"), 3, "rtt_ms", "-3 is negative"),
    "infinite": (network("0,30,0,,", "1,inf,0,,"), 3, "rtt_ms", "not a finite number"),
    "loss above 100": (network("0,30,0,,", "1,30,120,,"), 3, "loss_pct", "above 100"),
    "empty time": (network("0,30,0,,", ",30,0,,"), 3, "time_s", "empty or NaN"),
    "NaN time": (network("0,30,0,,", "nan,30,0,,"), 3, "time_s", "empty or NaN"),
    "duplicate second": (network("0,30,0,,", "0,30,0,,"), 3, "time_s", "same time as in line 2"),
    "second goes back": (network("5,30,0,,", "4,30,0,,"), 3, "time_s", "time goes back: 4 after 5"),
    "nothing measured": (network("0,,,,", "1,,,,"), 2, "rtt_ms", "nothing was measured"),
    "too many fields": (network("0,30,0,,", "1,30,0,,,"), 3, None, "6 fields; the header has 5"),
    "too few fields": (network("0,30,0,,", "1,30"), 3, None, "2 fields; the header has 5"),
    "blank line": (network("0,30,0,,", "", "1,30,0,,"), 3, None, "an empty line"),
    "doubled name": (network("0,1,2,3,4,5", header=NETWORK + ",rtt_ms"), 1, "rtt_ms", "two columns"),
    "semicolons": (network("0;1", header="time_s;rtt_ms"), 1, None, "expected commas"),
    "header only": (NETWORK + "\n", 1, None, "ends after the header"),
    "unknown form": ("a,b\n1,2\n", 1, None, "fits no form"),
    "impossible intensity": (grid(hour(0), hour(1, "2600,50,0")), 3, "carbon_g_per_kwh", "lb/MWh"),
    "share above 100": (grid(hour(0), hour(1, "100,150,0")), 3, "low_carbon_pct", "at most 100"),
    "not a time": (grid(hour(0), "yesterday,100,50,0"), 3, "utc_time", "'yesterday' is not a time"),
    "no time": (grid(hour(0), ",100,50,0"), 3, "utc_time", "every row needs a time"),
    "duplicate hour": (grid(hour(0), hour(0)), 3, "utc_time", "same time as in line 2"),
    "hour goes back": (grid(hour(2), hour(1)), 3, "utc_time", "goes back"),
    "not a flag": (grid(hour(0), hour(1, "100,50,maybe")), 3, "estimated", "'maybe' is neither"),
    "no intensity at all": (grid(hour(0, ",50,0"), hour(1, ",50,0")), 2, "carbon_g_per_kwh", "no row holds"),
    "arrivals go back": ("time_s,input_tokens\n3,1\n2,1\n", 3, "time_s", "goes back"),
    "arrival without size": ("time_s,input_tokens\n1,5\n2,\n", 3, "input_tokens", "empty or NaN"),
    "rate without rate": ("time_s,burst_cv\n0,1\n", 1, "rate_req_per_s", "missing"),
    "rate windows repeat": ("time_s,rate_req_per_s\n0,1\n0,1\n", 3, "time_s", "same time"),
}

WARNINGS = {
    "gap in seconds": (network("0,30,0,,", "1,30,0,,", "2,30,0,,", "9,30,0,,"), 5, "time_s", "gap: 6 s"),
    "gap in hours": (grid(hour(0), hour(1), hour(2), hour(6)), 5, "utc_time", "gap: 10800 s"),
    "not measured": (grid(hour(0), hour(1, ",50,0"), hour(2, "nan,50,0")), 3, "carbon_g_per_kwh", "2 rows"),
    "stale": (grid(hour(0, "90,50,0"), *map(hour, range(1, 25))), 3, "carbon_g_per_kwh", "24 h (24 rows)"),
    "estimated": (grid(hour(0), hour(1, "99,50,1")), 3, "carbon_g_per_kwh", "1 rows (50.0%) are estimated"),
    "unmeasured second": (network("0,30,0,,", "1,,,,"), 3, "rtt_ms", "not measured"),
    "outage with rtt": (network("0,30,0,,", "1,30,100,,"), 3, "rtt_ms", "yet there is an rtt"),
    "stall": (network("0,30,0,,", "1,2500,0,,"), 3, "rtt_ms", "a stall; 1 rows"),
    "uneven": (network("0,3,0,,", "1,3,0,,", "2,3,0,,", "2.5,3,0,,"), 5, "time_s", "do not follow"),
    "misspelt optional": (grid(hour(0), header=GRID.replace("ted", "tet")), 1, "estimatet", "'estimated'"),
    "maximum below mean": (network("0,30,0,,,20", header=NETWORK + ",rtt_max_ms"), 2, "rtt_max_ms", "faster"),
    "gap of rates": ("time_s,rate_req_per_s\n0,1\n600,\n", 3, "rate_req_per_s", "gap of the recording"),
}


def found(path, severity: str, case: tuple) -> bool:
    _, line, column, text = case
    return any(
        (d.severity, d.file, d.line, d.column) == (severity, str(path), line, column) and text in d.message
        for d in check_file(path)
    )


@pytest.mark.parametrize("name", ERRORS)
def test_error_has_file_line_and_column(tmp_path, name):
    path = tmp_path / "trace.csv"
    path.write_text(ERRORS[name][0])
    assert found(path, "error", ERRORS[name]), check_file(path)
    with pytest.raises(TraceError, match=rf"trace\.csv:{ERRORS[name][1]}"):
        read_trace(path)


@pytest.mark.parametrize("name", WARNINGS)
def test_warning_has_file_line_and_column_and_the_file_can_be_read(tmp_path, name):
    path = tmp_path / "trace.csv"
    path.write_text(WARNINGS[name][0])
    assert found(path, "warning", WARNINGS[name]), check_file(path)
    read_trace(path)


def test_twenty_three_equal_hours_are_not_stale(tmp_path):
    path = tmp_path / "grid.csv"
    path.write_text(grid(hour(0, "90,50,0"), *map(hour, range(1, 24))))
    assert check_file(path) == []


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"", 1, "empty"),
        (b" \n\n", 1, "empty"),
        (NETWORK.encode() + b"\n0,1,2,3,4\n\x00\x01", 3, "binary"),
        (NETWORK.encode() + b"\n0,1,2,3,\xe9\n", 2, "not UTF-8"),
    ],
)
def test_files_that_are_no_text(tmp_path, data, line, text):
    path = tmp_path / "trace.csv"
    path.write_bytes(data)
    (defect,) = check_file(path)
    assert (defect.severity, defect.line) == ("error", line)
    assert text in defect.message


def test_missing_file_offers_its_neighbour(tmp_path):
    (tmp_path / "link.csv").write_text(NETWORK)
    with pytest.raises(InputError, match=r"no such file.*'link\.csv'"):
        check_file(tmp_path / "lnk.csv")
    with pytest.raises(InputError, match="folder"):
        check_file(tmp_path)


def test_the_list_is_bounded_and_says_how_much_is_left_out(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(network(*(f"{t},-1,0,," for t in range(200))))
    defects = check_file(path)
    assert len(defects) == MAX_LISTED + 1
    assert "150 more" in defects[-1].message
    with pytest.raises(TraceError, match="195 more: carbonpilot traces check"):
        read_trace(path)


def test_lines_count_quoted_line_breaks(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(network('0,30,0,,,"two\nlines"', "1,-1,0,,,x", header=NETWORK + ",note"))
    (defect,) = check_file(path)
    assert (defect.line, defect.column) == (4, "rtt_ms")


def test_windows_line_ends_and_byte_order_mark_are_fine(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf" + network("0,30,0,,", "1,31,0,,").replace("\n", "\r\n").encode())
    assert check_file(path) == []
    assert read_trace(path).rtt_ms.tolist() == [30, 31]
