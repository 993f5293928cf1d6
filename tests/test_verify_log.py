"""What verify makes of logs: other sites' logs, broken lines, outages, fallbacks, restarts, and the command."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from site_builder import site_content, site_of
from typer.testing import CliRunner

from carbonpilot.cli import app
from carbonpilot.envs.errors import InputError
from carbonpilot.real.log_records import FrameRecord, Header, WorldRecord, read_log, to_line
from carbonpilot.real.verify.simulated_log import write_simulated_log
from carbonpilot.real.verify.verification import verify_log

CLEAN = {"kind": "phases", "phases": [{"rtt_ms": 20, "jitter_ms": 2, "loss_pct": 0, "rate_mbps": 50}]}


@pytest.fixture
def scenario(tiny_scenario):
    return tiny_scenario(
        episode={"requests": 200},
        links={"uplink": {"source": CLEAN}},
        nodes={"edge": {"background": None}},
    )


@pytest.fixture
def log(tmp_path, scenario):
    return write_simulated_log(tmp_path / "log.jsonl", scenario, lambda n, _: n % 2, seed=1)


def rewritten(log, change):
    """The log with ``change`` applied to each record; None drops it."""
    records = [change(r) for r in read_log(log)]
    log.write_text("".join(to_line(r) for r in records if r is not None))
    return log


def test_another_sites_log_is_refused(log, tiny_scenario):
    other = site_of(tiny_scenario(slo={"latency_ms": 151}))
    with pytest.raises(InputError, match=r"log was written with scenario 'tiny'.*--site"):
        verify_log(log, other)


def test_another_tables_log_is_refused(log, scenario):
    rewritten(log, lambda r: replace(r, table_sha256="f" * 64) if isinstance(r, Header) else r)
    with pytest.raises(InputError, match=r"observation table.*version"):
        verify_log(log, site_of(scenario))


def test_a_broken_line_is_named(log, scenario):
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:7], lines[7][:30] + "\n", *lines[8:]]))
    with pytest.raises(InputError, match=r"log\.jsonl:8: expected a line of"):
        verify_log(log, site_of(scenario))


def test_a_log_without_frames_says_so(log, scenario):
    rewritten(log, lambda r: None if isinstance(r, FrameRecord) else r)
    with pytest.raises(InputError, match="no frame in this log"):
        verify_log(log, site_of(scenario))


def test_a_log_without_probes_says_so(log, scenario):
    rewritten(log, lambda r: None if isinstance(r, WorldRecord) else r)
    with pytest.raises(InputError, match="no 'world' line"):
        verify_log(log, site_of(scenario))


def test_missing_file(tmp_path, scenario):
    with pytest.raises(InputError, match="No log at"):
        verify_log(tmp_path / "none.jsonl", site_of(scenario))


def test_an_answer_nobody_claims_is_an_error(log, scenario):
    def unclaimed(r):
        if isinstance(r, FrameRecord) and r.frame == 5:
            return replace(r, attempts=[replace(r.attempts[0], used=False)])
        return r

    rewritten(log, unclaimed)
    with pytest.raises(InputError, match="frame 5 says that"):
        verify_log(log, site_of(scenario))


def test_frames_without_a_result_are_counted_and_left_out(log, scenario):
    def lost(r):
        if isinstance(r, FrameRecord) and r.frame % 10 == 0:
            return replace(r, executed=None, latency_ms=None, attempts=[])
        return r

    found = verify_log(rewritten(log, lost), site_of(scenario))
    assert found.requests.unanswered == 20
    assert len(found.requests) == 180
    assert any("20 frames have no result" in note for note in found.notes)
    assert found.ok


def test_a_fallback_is_played_where_it_was_answered(log, scenario):
    """The edge fails for 50 ms, then the device answers: its own time is compared, not the frame's."""

    def fell_back(r):
        if not isinstance(r, FrameRecord) or r.executed != "local" or r.frame % 4:
            return r
        failed = replace(
            r.attempts[0], placement="edge-b0", error="timeout", used=False, ended_ms=r.issued_ms + 50,
            prepare_ms=None, execute_ms=None, finish_ms=None, sent_bytes=None, received_bytes=None,
        )  # fmt: skip
        used = replace(r.attempts[0], started_ms=r.issued_ms + 50, ended_ms=r.attempts[0].ended_ms + 50)
        latency = r.latency_ms + 50
        return replace(
            r, attempts=[failed, used], latency_ms=latency, placement="edge-b0", fallback="timeout"
        )

    found = verify_log(rewritten(log, fell_back), site_of(scenario))
    late = found.requests.second
    assert late.sum() == 50
    assert found.requests.latency_ms[late].max() < 130
    assert {t.placement: t.count for t in found.totals} == {"local": 50, "edge-b0": 100}
    assert found.ok


def test_what_a_slow_processor_takes_before_a_call_is_the_frames(log, scenario):
    """The runtime needs 12 ms before the first call begins: they belong to the latency that is compared."""

    def slow(r):
        if not isinstance(r, FrameRecord):
            return r
        call = r.attempts[0]
        later = replace(call, started_ms=call.started_ms + 12, ended_ms=call.ended_ms + 12)
        return replace(r, attempts=[later], latency_ms=r.latency_ms + 12, overhead_ms=12.0)

    before = verify_log(log, site_of(scenario)).requests
    after = verify_log(rewritten(log, slow), site_of(scenario)).requests
    assert after.latency_ms == pytest.approx(before.latency_ms + 12)
    assert after.arrival_ms == pytest.approx(before.arrival_ms)


def test_a_restart_in_the_same_folder_is_another_run(tmp_path, log, scenario):
    folder = tmp_path / "logs"
    folder.mkdir()
    first = log.read_text()
    (folder / "a.jsonl").write_text(first)
    (folder / "b.jsonl").write_text(first.replace('"run":"simulated"', '"run":"again"'))
    found = verify_log(folder, site_of(scenario))
    assert len(found.requests) == 400


def test_an_outage_holds_requests_back(tmp_path, scenario):
    """Seconds without an answered probe are played as an outage: what is sent into it waits until it is over."""
    log = write_simulated_log(tmp_path / "l.jsonl", scenario, lambda n, _: 1, seed=1)

    def cut(r):
        if isinstance(r, WorldRecord) and 6000 < r.time_ms <= 12000:
            link = replace(r.links["uplink"], answered=False)
            return replace(r, links={"uplink": link})
        return r

    found = verify_log(rewritten(log, cut), site_of(scenario))
    blocked = (found.requests.arrival_ms >= 6000) & (found.requests.arrival_ms < 12000)
    assert found.played.latency_ms[blocked].mean() > 1000
    assert [c.condition for c in found.cells] == ["uplink 20 ms", "uplink cut", "uplink 20 ms"] or len(
        found.cells
    ) == 3
    assert found.totals[0].count == 200 - blocked.sum()


@pytest.fixture
def site_file(tmp_path, scenario):
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(site_content(scenario)))
    return path


def test_the_command_prints_and_writes(tmp_path, log, site_file):
    out = tmp_path / "verify.json"
    done = CliRunner().invoke(app, ["verify", str(log), "--site", str(site_file), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "The site file fits this run." in done.output
    assert "Regret:" in done.output
    content = json.loads(out.read_text())
    assert content["schema"] == "carbonpilot/verify/1"
    assert content["ok"] is True
    assert {"carbonpilot_version", "scenario", "scenario_sha256", "seed"} <= set(content)
    assert {p["placement"] for p in content["placements"]} == {"local", "edge-b0"}
    assert {"as-run", "as-simulated", "hindsight", "always-local"} == set(content["policies"])


def test_the_command_ends_with_1_where_the_site_is_out_of_date(log, site_file):
    def slower(r):
        if isinstance(r, FrameRecord) and r.executed == "local":
            return replace(r, latency_ms=1.2 * r.latency_ms)
        return r

    rewritten(log, slower)
    done = CliRunner().invoke(app, ["verify", str(log), "--site", str(site_file), "--no-regret"])
    assert done.exit_code == 1
    assert (
        "Calibrate again: placements.0.service no longer fits: carbonpilot calibrate --renew" in done.output
    )
    assert "--part device" in done.output


def test_one_draw_is_refused(log, scenario):
    with pytest.raises(InputError, match="at least 2"):
        verify_log(log, site_of(scenario), draws=1)
