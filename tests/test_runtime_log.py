"""The log: whole lines, in order, across rotations, full disks, crashes and restarts; no frame waits for it."""

from __future__ import annotations

import errno
import json
import os
import threading
import time

import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.log_records import EventRecord, FrameRecord, Header, from_line, read_log, to_line
from carbonpilot.real.runtime import log_files as files_module
from carbonpilot.real.runtime.log_files import LogFiles, log_files
from carbonpilot.real.runtime.log_repair import check_same_site, earlier, repair
from carbonpilot.real.runtime.log_writer import LogWriter

HEADER = Header(
    carbonpilot_version="0", run="r1", part=0, started_utc="2026-01-01T00:00:00+00:00", started_monotonic_s=1.0,
    mode="active", scenario="tiny", scenario_sha256="a" * 64, table_sha256="b" * 64, bundle="b", card_sha256="c" * 64,
    slo_ms=150.0, placements=["local", "edge"], features=["x"], providers={"local": "stand-in"}, first_frame=0,
)  # fmt: skip


def frame_line(number: int, missed: bool = False, **changes) -> FrameRecord:
    values = {
        "frame": number, "image": f"{number}.jpg", "issued_ms": 100.0 * number, "issued_utc": HEADER.started_utc,
        "payload_kb": 30.0, "observation": [0.5], "mask": [1, 1], "wanted": "edge", "placement": "edge",
        "reason": "policy", "executed": "edge", "fallback": None, "attempts": [], "latency_ms": 80.0, "missed": missed,
        "decision_us": 20.0, "overhead_ms": 0.1, "compute_energy_j": 0.0, "radio_energy_j": 0.0,
        "network_energy_j": 0.0, "server_energy_j": 1.0, "device_idle_energy_j": 0.1, "server_idle_energy_j": 0.1,
        "energy_j_marginal": 1.0, "energy_j_attributional": 1.2, "carbon_mg_marginal": 0.1,
        "carbon_mg_attributional": None, "energy_basis": "calibrated", "carbon_g_per_kwh": {"local": None},
        "accuracy_miou": 37.4, "problem": None,
    }  # fmt: skip
    return FrameRecord(**{**values, **changes})


def writer(folder, max_bytes=1_000_000, keep=None, **options) -> LogWriter:
    return LogWriter(
        LogFiles(folder, HEADER, max_bytes, keep), SystemClock(), time.monotonic(), **options
    ).start()


def frames(folder) -> list[int]:
    return [r.frame for r in read_log(folder) if isinstance(r, FrameRecord)]


def test_every_file_begins_with_a_header_and_the_whole_reads_in_order(tmp_path):
    log = writer(tmp_path, max_bytes=4000)
    for i in range(50):
        log.put(frame_line(i))
    state = log.close()
    assert (state.written, state.held, state.dropped, state.trouble) == (50, 0, 0, None)
    files = log_files(tmp_path)
    assert len(files) > 5
    assert all(file.stat().st_size <= 4000 for file in files)
    headers = [from_line(file.read_text().splitlines()[0]) for file in files]
    assert [h.part for h in headers] == list(range(len(files)))
    assert frames(tmp_path) == list(range(50))


def test_only_the_newest_files_are_kept_if_so_wished(tmp_path):
    log = writer(tmp_path, max_bytes=4000, keep=2)
    for i in range(50):
        log.put(frame_line(i))
    log.close()
    assert len(log_files(tmp_path)) == 2
    assert frames(tmp_path)[-1] == 49


def test_a_line_larger_than_a_file_is_written_all_the_same(tmp_path):
    log = writer(tmp_path, max_bytes=10)
    log.put(frame_line(0))
    log.put(frame_line(1))
    log.close()
    assert len(log_files(tmp_path)) == 2
    assert frames(tmp_path) == [0, 1]


class FullDisk:
    """`os.write` on a disk with so many bytes left."""

    def __init__(self, monkeypatch, left: int) -> None:
        self.left, self.real = left, os.write
        monkeypatch.setattr(files_module.os, "write", self.write)

    def write(self, file: int, data: bytes) -> int:
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.real(file, data[: self.left])
        self.left -= written
        return written


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_full_disk_holds_lines_and_writes_them_when_there_is_room(tmp_path, monkeypatch, caplog):
    log = writer(tmp_path, max_bytes=6000)
    disk = FullDisk(monkeypatch, 5300)  # in the middle of a line
    for i in range(20):
        log.put(frame_line(i))
    wait_for(lambda: log.state.held + log.state.written == 20 and log.state.trouble)
    assert log.state.dropped == 0
    assert frames(tmp_path) == list(range(log.state.written))  # whole lines only, even now
    assert "No space left" in caplog.text
    assert caplog.text.count("Cannot write the log") == 1  # told once, not for every line
    disk.left = 10**9
    log.put(frame_line(20))
    wait_for(lambda: log.state.written == 21)
    assert log.close().trouble is None
    assert frames(tmp_path) == list(range(21))


def test_what_cannot_be_held_is_dropped_counted_and_told_in_the_log(tmp_path, monkeypatch, caplog):
    log = writer(tmp_path, most_held_bytes=5000)
    disk = FullDisk(monkeypatch, 0)
    for i in range(20):
        log.put(frame_line(i))
    wait_for(lambda: log.state.held + log.state.dropped == 20)
    dropped = log.state.dropped
    assert 10 < dropped < 20
    disk.left = 10**9
    log.put(frame_line(20))
    wait_for(lambda: log.state.held == 0)
    log.put(frame_line(21))
    assert log.close().dropped == dropped
    records = list(read_log(tmp_path))
    assert frames(tmp_path) == list(range(dropped, 22))
    (lost,) = [r for r in records if isinstance(r, EventRecord)]
    assert (lost.event, lost.detail.split()[0]) == ("log-lines-lost", str(dropped))
    assert "lines dropped" in caplog.text


def test_a_disk_that_hangs_delays_nobody(tmp_path, monkeypatch):
    released = threading.Event()
    real = os.write
    log = writer(tmp_path)

    def hang(file, data):
        released.wait(20)
        return real(file, data)

    monkeypatch.setattr(files_module.os, "write", hang)
    began = time.monotonic()
    for i in range(1000):
        log.put(frame_line(i))
    assert time.monotonic() - began < 5  # 1000 lines, none of which is written yet
    assert log.state.written == 0
    released.set()
    assert log.close(30).written == 1000
    assert frames(tmp_path) == list(range(1000))


def test_a_number_that_is_none_costs_no_line(tmp_path, caplog):
    log = writer(tmp_path)
    log.put(frame_line(0, latency_ms=float("nan"), observation=[float("inf")]))
    log.close()
    (record,) = [r for r in read_log(tmp_path) if isinstance(r, FrameRecord)]
    assert (record.latency_ms, record.observation) == (None, [None])


def test_a_taker_that_fails_costs_no_line(tmp_path, caplog):
    seen = []

    def broken(record):
        seen.append(record.frame)
        raise RuntimeError("a bug")

    log = writer(tmp_path, also=[broken])
    log.put(frame_line(0))
    log.put(frame_line(1))
    log.close()
    assert seen == frames(tmp_path) == [0, 1]


@pytest.mark.parametrize(
    "tail", [b'{"kind":"fra', b"\x00" * 5000, b'{"kind":"frame"}\x00\n', b"[1]\n", b"\n\n"], ids=repr
)
def test_a_torn_end_is_put_aside_and_the_run_goes_on_behind_it(tmp_path, tail):
    log = writer(tmp_path)
    for i in range(3):
        log.put(frame_line(i, missed=i == 1))
    log.close()
    (file,) = log_files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole + tail[:100])
    (told,) = repair(tmp_path)
    assert file.read_bytes() == whole
    assert file.with_suffix(".torn").read_bytes() == tail[:100]
    assert "000001.jsonl" in told
    assert "000001.torn" in told
    assert repair(tmp_path) == []
    before = earlier(tmp_path, 2)
    assert (before.next_frame, before.missed) == (3, (True, False))
    again = writer(tmp_path)
    again.put(frame_line(3))
    again.close()
    assert frames(tmp_path) == [0, 1, 2, 3]
    assert len(log_files(tmp_path)) == 2


def test_a_file_with_nothing_whole_vanishes(tmp_path):
    (tmp_path / "000004.jsonl").write_bytes(b'{"kind":"hea')
    repair(tmp_path)
    assert log_files(tmp_path) == []
    assert earlier(tmp_path, 10).next_frame == 0


def test_where_to_go_on_is_found_over_many_files_and_a_run_without_frames(tmp_path):
    log = writer(tmp_path, max_bytes=3000)
    for i in range(30):
        log.put(frame_line(i, missed=i % 3 == 0))
    log.close()
    before = earlier(tmp_path, 12)
    assert before.next_frame == 30
    assert before.missed == tuple(i % 3 == 0 for i in range(18, 30))
    header = tmp_path / "000099.jsonl"
    header.write_text(to_line(HEADER).replace('"first_frame":0', '"first_frame":30'))
    assert earlier(tmp_path, 12).next_frame == 30
    check_same_site(before, "a" * 64, tmp_path)
    with pytest.raises(InputError, match="another site"):
        check_same_site(before, "d" * 64, tmp_path)


def test_one_process_at_a_time(tmp_path):
    first = LogFiles(tmp_path, HEADER, 1000)
    with pytest.raises(InputError, match="Another carbonpilot writes its log"):
        LogFiles(tmp_path, HEADER, 1000)
    first.close()
    LogFiles(tmp_path, HEADER, 1000).close()


def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    me, nobody = os.geteuid(), 65534
    if me == 0:  # root may write everywhere, so be somebody else for a moment
        os.seteuid(nobody)
    try:
        with pytest.raises(InputError, match="permission denied"):
            LogFiles(tmp_path / "log", HEADER, 1000)
    finally:
        os.seteuid(me)


def test_lines_are_read_back_as_they_were(tmp_path):
    log = writer(tmp_path)
    log.put(frame_line(0))
    log.close()
    _header, record = read_log(tmp_path)
    assert record == frame_line(0)
    assert json.loads(log_files(tmp_path)[0].read_text().splitlines()[1])["kind"] == "frame"
