"""What is written is what is read; the exports people really have; signals end with their trace."""

from __future__ import annotations

import csv
import json
import math
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbonpilot.envs.errors import InputError, TraceEndedError, TraceError
from carbonpilot.envs.traces import check_file, read_arrivals, read_grid, read_network
from carbonpilot.envs.traces.signals import Signal

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
cell = st.none() | st.floats(0, 1900, allow_subnormal=False)


def text(value: float | None) -> str:
    return "" if value is None else repr(value)


def same(values: np.ndarray, cells: list[float | None]) -> None:
    np.testing.assert_array_equal(values, [math.nan if c is None else c for c in cells])


@quick
@given(
    rows=st.lists(st.tuples(cell, st.booleans()), min_size=1, max_size=30).filter(
        lambda rows: any(c is not None for c, _ in rows)
    ),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(timezone.utc)),
    step_s=st.sampled_from([300, 1800, 3600, 86400]),
)
def test_grid_round_trip(tmp_path, rows, start, step_s):
    path = tmp_path / "grid.csv"
    times = [start.replace(microsecond=0) + timedelta(seconds=step_s * i) for i in range(len(rows))]
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["utc_time", "carbon_g_per_kwh", "estimated"])
        for t, (carbon, estimated) in zip(times, rows, strict=True):
            out.writerow([t.strftime("%Y-%m-%dT%H:%M:%SZ"), text(carbon), int(estimated)])
    trace = read_grid(path)
    assert trace.unix_s.tolist() == [t.timestamp() for t in times]
    same(trace.carbon_g_per_kwh, [c for c, _ in rows])
    assert trace.estimated.tolist() == [e for _, e in rows]
    assert trace.step_s == (step_s if len(rows) > 1 else 3600)


@quick
@given(
    rows=st.lists(st.tuples(cell, st.none() | st.floats(0, 100), cell, cell), min_size=1, max_size=30).filter(
        lambda rows: any(c is not None for row in rows for c in row)
    ),
    order=st.permutations(["time_s", "rtt_ms", "loss_pct", "down_mbps", "up_mbps", "remark"]),
)
def test_network_round_trip_in_any_column_order(tmp_path, rows, order):
    path = tmp_path / "network.csv"
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, order)
        out.writeheader()
        for t, (rtt, loss, down, up) in enumerate(rows):
            named = {"rtt_ms": rtt, "loss_pct": loss, "down_mbps": down, "up_mbps": up}
            out.writerow({"time_s": t, "remark": "a, b", **{k: text(v) for k, v in named.items()}})
    trace = read_network(path)
    assert trace.time_s.tolist() == list(range(len(rows)))
    for i, name in enumerate(("rtt_ms", "loss_pct", "down_mbps", "up_mbps")):
        same(getattr(trace, name), [row[i] for row in rows])
    assert np.isnan(trace.rtt_max_ms).all()


@quick
@given(gaps=st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=30))
def test_arrivals_round_trip(tmp_path, gaps):
    times = np.cumsum(gaps).tolist()
    path = tmp_path / "arrivals.csv"
    path.write_text("time_s,input_tokens,output_tokens\n" + "".join(f"{t!r},7,9\n" for t in times))
    trace = read_arrivals(path)
    assert trace.request_times_s().tolist() == times
    with pytest.raises(InputError, match="single requests"):
        trace.rate()


def test_rates_are_not_requests(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("time_s,rate_req_per_s,burst_cv,active_clients\n0,2.5,1,3\n600,,,0\n1200,4,2,3\n")
    trace = read_arrivals(path)
    assert (trace.kind, trace.step_s) == ("rate", 600)
    assert math.isnan(trace.rate().at(900.0))
    assert trace.rate().at(1200.0) == 4
    with pytest.raises(InputError, match="not single requests"):
        trace.request_times_s()


OLD = (
    "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),"
    "Carbon Intensity gCO₂eq/kWh (LCA),Low Carbon Percentage,Renewable Percentage,"
    "Data Source,Data Estimated,Data Estimation Method"
)
NEW = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),"
    "Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method"
)


def export(header: str, step: timedelta, rows: int = 3) -> str:
    start = datetime(2024, 1, 1)
    lines = [
        f"{start + i * step},Nowhere,Nowhere East,NW-E,{10 + i},{30 + i},90.5,60,grid.example,"
        + ("true,ESTIMATED_TIME_SLICER_AVERAGE" if i == 1 else "false,")
        for i in range(rows)
    ]
    return "\n".join([header, *lines]) + "\n"


@pytest.mark.parametrize("header", [OLD, NEW, NEW.replace("₂", "2").replace("Life cycle", "LCA")])
@pytest.mark.parametrize("step_s", [300, 3600, 86400])
def test_electricity_maps_export(tmp_path, header, step_s):
    path = tmp_path / "any-name.csv"
    path.write_text(export(header, timedelta(seconds=step_s)))
    trace = read_grid(path)
    assert (trace.form, trace.zone, trace.step_s) == ("electricity-maps", "NW-E", step_s)
    assert trace.factors == "lifecycle"
    assert trace.carbon_g_per_kwh.tolist() == [30, 31, 32]
    assert trace.unix_s[0] == datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp()
    assert trace.estimated.tolist() == [False, True, False]
    assert trace.low_carbon_pct.tolist() == [90.5] * 3
    assert read_grid(path, factors="direct").carbon_g_per_kwh.tolist() == [10, 11, 12]


def test_electricity_maps_defects(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text(export(NEW, timedelta(hours=1)).replace("NW-E,12", "NW-W,-12"))
    wanted = read_grid_errors(path)
    assert wanted == {(4, "Zone id")}, "the direct column is not read, so its defect does not matter"
    path.write_text(export(NEW, timedelta(hours=1)).replace("(Life cycle)", "(Life cylce)"))
    with pytest.raises(TraceError, match=r"only direct intensity.*factors='direct'"):
        read_grid(path)
    path.write_text(export(NEW, timedelta(hours=1)).replace("Datetime (UTC)", "Datetme (UTC)"))
    with pytest.raises(TraceError, match=r"column 'Datetime \(UTC\)'.*'Datetme \(UTC\)'"):
        read_grid(path)


def read_grid_errors(path) -> set[tuple[int, str | None]]:
    return {(d.line, d.column) for d in check_file(path) if d.severity == "error"}


def half_hours(actual: list[int | None], forecast: list[int | None]) -> list[dict]:
    start = datetime(2022, 7, 14, 14, 0)
    stamp = [(start + i * timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%MZ") for i in range(len(actual) + 1)]
    return [
        {"from": stamp[i], "to": stamp[i + 1], "intensity": {"forecast": f, "actual": a, "index": "moderate"}}
        for i, (a, f) in enumerate(zip(actual, forecast, strict=True))
    ]


def test_gb_forecast_and_actual_are_two_signals(tmp_path):
    path = tmp_path / "gb"
    path.write_text(json.dumps({"data": half_hours([263, None], [266, 270])}, indent=1))
    trace = read_grid(path)
    assert (trace.zone, trace.step_s) == ("GB", 1800)
    same(trace.carbon_g_per_kwh, [263, None])
    same(trace.forecast_g_per_kwh, [266, 270])
    now = datetime(2022, 7, 14, 14, 40, tzinfo=timezone.utc).timestamp()
    assert math.isnan(trace.truth().at(now))
    assert trace.truth().age_s(now) == 2400
    assert not trace.truth().valid(now)
    assert trace.forecast().at(now) == 270
    (warning,) = check_file(path)
    assert (warning.severity, warning.column) == ("warning", "intensity.actual")
    assert '"from"' in path.read_text().splitlines()[warning.line - 1]


@pytest.mark.parametrize("listed", [True, False])
def test_gb_regional_form_has_forecasts_only(tmp_path, listed):
    records = half_hours([None, None], [100, 120])
    for record in records:
        del record["intensity"]["actual"]
    region = {"regionid": 3, "shortname": "North West England", "data": records}
    path = tmp_path / "regional.json"
    path.write_text(json.dumps({"data": [region] if listed else region}))
    trace = read_grid(path)
    assert trace.zone == "GB-North West England"
    assert trace.forecast_g_per_kwh.tolist() == [100, 120]
    with pytest.raises(InputError, match="forecasts only"):
        trace.truth()
    assert any("forecasts only" in d.message for d in check_file(path))


@pytest.mark.parametrize(
    ("change", "column", "said"),
    [
        (lambda r: r[1]["intensity"].update(actual=-5), "intensity.actual", "negative"),
        (lambda r: r[1]["intensity"].update(forecast="high"), "intensity.forecast", "'high' is not a number"),
        (lambda r: r[1]["intensity"].update(forecast=9000), "intensity.forecast", "above 2000"),
        (lambda r: r[1].pop("from"), "from", "missing"),
        (lambda r: r[1].pop("intensity"), "intensity", "without an intensity"),
        (lambda r: r[1].update({"from": "today"}), "from", "not a time"),
        (lambda r: r[1].update({"to": r[1]["from"]}), "to", "not after"),
        (lambda r: r[1].update({"from": r[0]["from"]}), "from", "same time"),
        (lambda r: r.clear(), "data", "no records"),
    ],
)
def test_gb_defects(tmp_path, change, column, said):
    records = half_hours([1, 2, 3], [1, 2, 3])
    change(records)
    path = tmp_path / "gb.json"
    path.write_text(json.dumps({"data": records}, indent=1))
    with pytest.raises(TraceError, match=rf"gb\.json:\d+: column '{column}': error: .*{said}"):
        read_grid(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"data": [{"from": ', "not JSON"),
        ('{"error": {"code": "400", "message": "Please enter a valid date"}}', "valid date"),
        ('{"data": [{"from": "x", "to": "y", "regions": []}]}', "all regions"),
        ('{"values": []}', "expected {data"),
    ],
)
def test_gb_answers_that_are_none(tmp_path, content, said):
    path = tmp_path / "gb.json"
    path.write_text(content)
    with pytest.raises(TraceError, match=said):
        read_grid(path)


def test_a_reader_refuses_another_kind(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("time_s\n0\n1\n")
    with pytest.raises(TraceError, match=r"expected a grid trace.*'arrivals'"):
        read_grid(path)


def signal() -> Signal:
    time_s = np.array([0.0, 1.0, 2.0, 6.0, 7.0])
    return Signal("x", "ms", time_s, np.array([10.0, 11.0, np.nan, 13.0, 14.0]), 1.0)


def test_signal_is_step_wise_and_its_gaps_stay():
    s = signal()
    np.testing.assert_array_equal(
        s.at(np.array([0.0, 0.999, 1.0, 2.5, 4.0, 6.5])), [10, 10, 11, np.nan, np.nan, 13]
    )
    assert s.at(0.5) == 10.0
    assert isinstance(s.at(0.5), float)
    np.testing.assert_array_equal(s.valid(np.array([0.5, 2.5, 4.0, 7.9])), [True, False, False, True])
    np.testing.assert_array_equal(s.age_s(np.array([0.5, 2.5, 5.0, 6.5])), [0.5, 1.5, 4.0, 0.5])


@pytest.mark.parametrize("t_s", [-0.001, 8.0, 1e9, math.nan])
def test_signal_ends_instead_of_repeating_its_last_value(t_s):
    assert signal().at(7.999) == 14.0
    with pytest.raises(TraceEndedError, match="never repeats"):
        signal().at(t_s)
    with pytest.raises(TraceEndedError):
        signal().at(np.array([1.0, t_s]))


def test_records_cannot_be_changed(tmp_path):
    path = tmp_path / "n.csv"
    path.write_text("time_s,rtt_ms,loss_pct,down_mbps,up_mbps\n0,1,0,,\n")
    with pytest.raises(ValueError, match="read-only"):
        read_network(path).rtt_ms[0] = 2
