"""A frame that could not be charged: null in the log, and nobody who reads it takes that for zero."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from runtime_fixture import Lab, options, quick_site
from site_builder import site_of

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.files import write_json
from carbonpilot.real.log_records import (
    CHARGED,
    NOT_CHARGED,
    FrameRecord,
    Header,
    from_line,
    read_log,
    to_line,
)
from carbonpilot.real.runtime.curves import _point, _values
from carbonpilot.real.verify.report import as_json, print_verification
from carbonpilot.real.verify.simulated_log import write_simulated_log
from carbonpilot.real.verify.verification import verify_log

UNKNOWN = dict.fromkeys(CHARGED)


def asked(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def lab(tmp_path, tiny, monkeypatch):
    """A run of 12 frames, of which every third cannot be charged."""
    lab = Lab(options(quick_site(tmp_path, tiny), tmp_path / "log", listen="127.0.0.1:0"))

    async def go():
        async with lab:
            charge, count = lab.run.recorder._accounts.charge, iter(range(100))

            def sometimes(*args):
                if next(count) % 3 == 0:
                    raise ArithmeticError("a bug")
                return charge(*args)

            monkeypatch.setattr(lab.run.recorder._accounts, "charge", sometimes)
            await lab.play(12)
            lab.page = await asyncio.to_thread(asked, lab.run.address + "metrics")

    asyncio.run(go())
    return lab


def test_page_metrics_and_curves_count_it_apart(lab):
    records = lab.check_counts(12)
    unknown = [r for r in records if r.energy_basis == NOT_CHARGED]
    known = [r for r in records if r.energy_basis != NOT_CHARGED]
    assert (len(unknown), len(known)) == (4, 8)
    assert {getattr(r, name) for r in unknown for name in CHARGED} == {None}
    joules = sum(r.energy_j_marginal for r in known)
    assert joules > 0
    shown = lab.run.status.content()["carbon"]
    assert (shown["frames_of_unknown_energy"], shown["frames_of_unknown_carbon"]) == (4, 4)
    assert shown["energy_j"] == pytest.approx(joules, abs=1e-3)
    assert "carbonpilot_frames_of_unknown_energy_total 4.0" in lab.page
    values = _values([_point(r) for r in records])
    assert values["energy/j_per_frame"] == pytest.approx(joules / 8)
    assert "energy/j_per_frame" not in _values([_point(r) for r in unknown])


def test_a_log_of_schema_1_is_read_and_its_zeros_are_no_measurement(lab):
    lines = [to_line(r) for r in read_log(lab.run.options.log)]
    header = json.loads(lines[0])
    assert header["schema"] == "carbonpilot/log/3"
    old = from_line(json.dumps({**header, "schema": "carbonpilot/log/1"}))
    assert isinstance(old, Header)
    with pytest.raises(
        InputError, match="expected schema carbonpilot/log/1 or carbonpilot/log/2 or carbonpilot/log/3"
    ):
        from_line(json.dumps({**header, "schema": "carbonpilot/log/4"}))
    frame = json.loads(next(line for line in lines if NOT_CHARGED in line))
    zeros = dict.fromkeys((name for name in CHARGED if name.endswith("_j") or "energy_j" in name), 0.0)
    read = from_line(json.dumps({**frame, **zeros}))
    assert {getattr(read, name) for name in CHARGED} == {None}


def test_calls_of_schema_2_know_no_split_models(lab):
    lines = [to_line(r) for r in read_log(lab.run.options.log)]
    frame = json.loads(next(line for line in lines if '"attempts":[{' in line))
    for attempt in frame["attempts"]:
        assert (attempt.pop("head_queued_ms"), attempt.pop("head_ms")) == (0.0, 0.0)
    read = from_line(json.dumps(frame))
    assert isinstance(read, FrameRecord)
    assert {(a.head_queued_ms, a.head_ms) for a in read.attempts} == {(0.0, 0.0)}


def test_verify_compares_the_energies_that_are_known(tmp_path, tiny_scenario, capsys):
    scenario = tiny_scenario(episode={"requests": 120}, nodes={"edge": {"background": None}})
    path = write_simulated_log(tmp_path / "log.jsonl", scenario, lambda n, _: n % 2, seed=1)
    whole = verify_log(path, site_of(scenario))

    def without(which):
        records = [
            replace(r, **UNKNOWN, energy_basis=NOT_CHARGED)
            if isinstance(r, FrameRecord) and which(r.frame)
            else r
            for r in read_log(path)
        ]
        file = tmp_path / "some.jsonl"
        file.write_text("".join(to_line(r) for r in records))
        return verify_log(file, site_of(scenario))

    some = without(lambda n: n % 5 == 0)
    assert any("24 frames could not be charged" in note for note in some.notes)
    assert some.ok
    for a, b in zip(whole.totals, some.totals, strict=True):
        assert a.energy_j is not None
        assert b.energy_j is not None
        assert b.energy_j.measured == pytest.approx(
            a.energy_j.measured, rel=0.1
        )  # zeros would make it 20 % less
        assert b.mean_ms == a.mean_ms
    none = without(lambda n: True)
    report = as_json(none, "log", 0)
    assert report["policies"]["as-run"]["energy_j_per_request"] is None
    assert [p["energy_j"] for p in report["placements"]] == [None, None]
    assert not any("energy" in c.what for c in none.checks)
    assert np.isfinite(none.totals[0].mean_ms.measured)
    print_verification(none, "log")
    assert "unknown" in capsys.readouterr().out
    write_json(tmp_path / "report.json", report)  # refuses NaN
