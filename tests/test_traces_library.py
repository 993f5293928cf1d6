"""Libraries cut windows from recordings without inventing a second, and training never meets evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.streams import Stream, episode_keys
from carbonpilot.envs.traces.library import GridLibrary, NetworkLibrary, assert_disjoint
from carbonpilot.envs.traces.network_pieces import SLOWEST_SIGMAS
from carbonpilot.envs.traces.patterns import file_parts, parse_pattern

HEADER = "time_s,segment,rtt_ms,rtt_max_ms,loss_pct,down_mbps,up_mbps"
BATCH = 64


def stream(name: str = "link:x", batch: int = BATCH) -> Stream:
    return Stream(episode_keys(range(batch)), name)


def write(folder, name: str, rows: list[str], header: str = HEADER) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


def ramp(folder, name: str = "network/a.csv", rows: int = 50, low: int = 100) -> None:
    """A recording whose RTT tells the row: 100, 101, ... ms, slowest reply 7 ms above."""
    write(folder, name, [f"{t},0,{low + t},{low + 7 + t},0,," for t in range(rows)])


def grid(folder, name: str, rows: list[str]) -> None:
    write(folder, name, rows, "utc_time,carbon_g_per_kwh,estimated")


def hours(first: int, count: int, low: int = 0) -> list[str]:
    stamps = [
        np.datetime64("2022-01-01T00:00:00") + np.timedelta64(h, "h") for h in range(first, first + count)
    ]
    return [f"{stamp}Z,{low + first + i},{int(i % 10 == 0)}" for i, stamp in enumerate(stamps)]


def test_windows_are_consecutive_rows_of_one_piece(tmp_path):
    ramp(tmp_path)
    world = NetworkLibrary.load(tmp_path, ["network/*.csv"]).draw_windows(stream(batch=1000), 10, 1000)
    np.testing.assert_array_equal(np.diff(world.rtt_ms, axis=0), 1)
    assert world.rtt_ms.shape == (10, 1000)
    assert world.rtt_ms.dtype == np.float32
    assert world.rtt_ms[0].min() == 100
    assert world.rtt_ms[0].max() == 140, "the last possible window is drawn, and none beyond"
    np.testing.assert_allclose(world.jitter_ms, 7 / SLOWEST_SIGMAS)
    np.testing.assert_array_equal(world.valid_rows, 10)
    np.testing.assert_array_equal(world.rate_shape, 1)
    assert not world.blocked.any()


def test_a_short_recording_ends_the_episode(tmp_path):
    ramp(tmp_path, rows=6)
    world = NetworkLibrary.load(tmp_path, ["network/a.csv"]).draw_windows(stream(), 10, BATCH)
    np.testing.assert_array_equal(world.valid_rows, 6)
    assert world.blocked[6:].all(), "nobody lives on a value that was never measured"
    assert not world.blocked[:6].any()


def test_same_seed_same_windows_whatever_the_batch(tmp_path):
    ramp(tmp_path)
    library = NetworkLibrary.load(tmp_path, ["network/a.csv"])
    many, few = (library.draw_windows(stream(batch=n), 5, n).rtt_ms for n in (BATCH, 3))
    np.testing.assert_array_equal(many[:, :3], few)
    assert len(np.unique(many[0])) > 10


def test_outages_and_stalls_are_blocked_and_hold_the_last_measured_rtt(tmp_path):
    write(tmp_path, "network/a.csv", ["0,0,50,60,0,,", "1,0,,,100,,", "2,0,9000,9500,20,,", "3,0,70,71,40,,"])
    library = NetworkLibrary.load(tmp_path, ["network/a.csv"])
    assert library.blocked.tolist() == [False, True, True, False]
    assert library.rtt_ms.tolist() == [50, 50, 50, 70]
    np.testing.assert_allclose(library.jitter_ms * SLOWEST_SIGMAS, [10, 10, 10, 1])
    np.testing.assert_allclose(library.loss, [0, 0, 0, 0.4], rtol=1e-6)


def test_unmeasured_seconds_and_gaps_cut_the_recording(tmp_path):
    rows = [f"{t},0,20,,0,," for t in (0, 1, 2)] + ["3,0,,,,,"] + [f"{t},0,30,,0,," for t in (4, 5, 9, 10)]
    write(tmp_path, "network/a.csv", rows)
    library = NetworkLibrary.load(tmp_path, ["network/a.csv"])
    assert library.rtt_ms.tolist() == [20, 20, 20, 30, 30, 30, 30]
    assert library.paths.start.tolist() == [0, 3, 5]
    assert library.paths.length.tolist() == [3, 2, 2]
    np.testing.assert_allclose(library.jitter_ms, 0.15 * library.rtt_ms, rtol=1e-6)


def test_a_source_without_loss_has_loss_zero(tmp_path):
    write(tmp_path, "network/a.csv", ["0,0,20,30,,,", "1,0,,,,,", "2,0,22,30,,,"])
    library = NetworkLibrary.load(tmp_path, ["network/a.csv"])
    assert library.loss.tolist() == [0, 0, 0]
    assert library.blocked.tolist() == [False, True, False]


def test_capacity_recordings_give_the_uplink_shape(tmp_path):
    ramp(tmp_path)
    write(tmp_path, "network/capacity.csv", [f"{t},0,,,,9,{up}" for t, up in enumerate([2, 4, 0, 8, 4])])
    library = NetworkLibrary.load(tmp_path, ["network/a.csv", "network/capacity.csv"])
    np.testing.assert_allclose(library.shape, [0.5, 1, 0.05, 2, 1])
    world = library.draw_windows(stream(), 8, BATCH)
    np.testing.assert_array_equal(world.valid_rows, 5)
    np.testing.assert_allclose(world.rate_shape[:5], np.tile([[0.5], [1], [0.05], [2], [1]], BATCH))


def test_a_recording_with_rtt_and_uplink_keeps_its_own_shape(tmp_path):
    write(tmp_path, "network/own.csv", [f"{t},0,{100 + t},,0,,{10 * (t + 1)}" for t in range(9)])
    library = NetworkLibrary.load(tmp_path, ["network/own.csv"])
    world = library.draw_windows(stream(), 4, BATCH)
    np.testing.assert_allclose(world.rate_shape, (world.rtt_ms - 99) * 10 / 50, rtol=1e-6)


def test_download_is_not_uplink(tmp_path):
    write(tmp_path, "network/cell.csv", [f"{t},0,30,,0,{t},,"[:-1] for t in range(9)])
    library = NetworkLibrary.load(tmp_path, ["network/cell.csv"])
    assert library.shapes is None
    np.testing.assert_array_equal(library.draw_windows(stream(), 4, BATCH).rate_shape, 1)


def test_only_capacity_is_no_link(tmp_path):
    write(tmp_path, "network/capacity.csv", ["0,0,,,,9,2"])
    with pytest.raises(InputError, match="measured RTT"):
        NetworkLibrary.load(tmp_path, ["network/capacity.csv"])


def test_each_pattern_is_equally_likely(tmp_path):
    ramp(tmp_path, "network/long.csv", 500, low=1000)
    ramp(tmp_path, "network/short.csv", 20, low=100)
    library = NetworkLibrary.load(tmp_path, ["network/long.csv", "network/short.csv"])
    rtt = library.draw_windows(stream(batch=2000), 10, 2000).rtt_ms[0]
    assert abs((rtt < 1000).mean() - 0.5) < 0.05


def test_parts_of_a_file_share_no_row(tmp_path):
    ramp(tmp_path, rows=51)
    early, late = (
        NetworkLibrary.load(tmp_path, [f"network/a.csv@{part}"]) for part in ("0.0-0.6", "0.6-1.0")
    )
    together = np.concatenate([early.rtt_ms, late.rtt_ms])
    np.testing.assert_array_equal(together, np.arange(100, 151))
    assert_disjoint(["network/a.csv@0.0-0.6"], ["network/a.csv@0.6-1.0"], tmp_path)


def test_overlap_names_file_and_share(tmp_path):
    ramp(tmp_path)
    with pytest.raises(InputError, match=r"a\.csv, share 0\.5-0\.6 \(10% of its rows\)"):
        assert_disjoint(["network/*.csv@0-0.6"], ["network/a.csv@.5-1"], tmp_path)
    with pytest.raises(InputError, match="same rows twice"):
        file_parts(tmp_path, ["network/a.csv", "network/*.csv"])


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("network/b.csv", r"matches no trace file.*'network/a\.csv'"),
        ("network/a.csv@0.6-0.2", "low < high"),
        ("network/a.csv@0-1.5", "low < high"),
        ("network/a.csv@half", "FILE@LOW-HIGH"),
        ("../a.csv", r"without '\.\.'"),
        ("/etc/*.csv", "leading '/'"),
    ],
)
def test_patterns_that_cannot_be(tmp_path, pattern, said):
    ramp(tmp_path)
    with pytest.raises(InputError, match=said):
        file_parts(tmp_path, [pattern])


def test_pattern_without_part_is_the_whole_file():
    assert parse_pattern("network/a*.csv") == ("network/a*.csv", 0.0, 1.0)


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="no such trace folder"):
        NetworkLibrary.load(tmp_path / "nowhere", ["*.csv"])


def test_grid_windows_are_consecutive_and_keep_to_their_dates(tmp_path):
    grid(tmp_path, "grid/a.csv", hours(0, 100))
    day = "2022-01-03T00:00:00Z"
    for span, low, high in (({"before": day}, 0, 47), ({"from_": day}, 48, 99)):
        windows = GridLibrary.load(tmp_path, ["grid/*.csv"], **span).draw(stream(batch=500), 10, 500)
        assert windows.truth_g_per_kwh.dtype == np.float32
        np.testing.assert_array_equal(np.diff(windows.truth_g_per_kwh, axis=0), 1)
        assert (windows.truth_g_per_kwh.min(), windows.truth_g_per_kwh.max()) == (low, high)
        hour = (windows.start_unix_s - np.datetime64("2022-01-01").astype("datetime64[s]").astype(int)) / 3600
        np.testing.assert_array_equal(hour, windows.truth_g_per_kwh[0])
        np.testing.assert_array_equal(windows.estimated, windows.truth_g_per_kwh % 10 == 0)


def test_grid_windows_avoid_gaps_and_unmeasured_hours(tmp_path):
    rows = hours(0, 30) + hours(40, 30)
    rows[10] = rows[10].replace(",10,", ",,")
    grid(tmp_path, "grid/a.csv", rows)
    library = GridLibrary.load(tmp_path, ["grid/a.csv"])
    windows = library.draw(stream(batch=500), 10, 500)
    np.testing.assert_array_equal(np.diff(windows.truth_g_per_kwh, axis=0), 1)
    assert set(np.unique(windows.truth_g_per_kwh)) == {*range(10), *range(11, 30), *range(40, 70)}
    with pytest.raises(InputError, match="no 31 measured hours in a row"):
        library.draw(stream(), 31, BATCH)


def test_zones_that_share_a_clock_are_read_at_the_same_moment(tmp_path):
    grid(tmp_path, "grid/a.csv", hours(0, 240))
    grid(tmp_path, "grid/b.csv", hours(0, 240, low=1000))
    library = GridLibrary.load(tmp_path, ["grid/*.csv"])
    clock = np.arange(BATCH) * 7
    first, second = (library.draw(stream(name), 5, BATCH, clock) for name in ("zone:a", "zone:b"))
    np.testing.assert_array_equal(first.start_unix_s, second.start_unix_s)
    np.testing.assert_array_equal(first.start_unix_s / 3600 % 24, clock % 24)
    assert len(np.unique(first.start_unix_s)) > 20
    assert (first.truth_g_per_kwh != second.truth_g_per_kwh).any()


def test_finer_grids_are_averaged_over_full_hours_only(tmp_path):
    start = np.datetime64("2022-01-01T00:30:00")
    rows = [
        f"{start + np.timedelta64(30 * i, 'm')}Z,{v},{int(i == 2)}" for i, v in enumerate([9, 10, 20, 30, 40])
    ]
    grid(tmp_path, "grid/a.csv", rows)
    library = GridLibrary.load(tmp_path, ["grid/a.csv"])
    assert library.carbon_g_per_kwh[library.start[0]] == 15
    assert library.length.tolist() == [2], "the first half hour is no hour"
    np.testing.assert_array_equal(library.carbon_g_per_kwh[1:], [15, 35])
    assert library.estimated.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ({"before": "2021-01-01"}, "no measured hour"),
        ({"before": "soon"}, "ISO 8601"),
        ({"before": "2022-01-01T05:00Z", "from_": "2022-01-01T06:00Z"}, "No hour"),
    ],
)
def test_dates_that_cannot_be(tmp_path, span, said):
    grid(tmp_path, "grid/a.csv", hours(0, 10))
    with pytest.raises(InputError, match=said):
        GridLibrary.load(tmp_path, ["grid/a.csv"], **span)


def test_daily_means_are_refused(tmp_path):
    grid(tmp_path, "grid/a.csv", ["2022-01-01,1,0", "2022-01-02,2,0", "2022-01-03,3,0"])
    with pytest.raises(InputError, match="hides the day"):
        GridLibrary.load(tmp_path, ["grid/a.csv"])
