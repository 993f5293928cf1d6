"""How long a training took to its score: from hand-written run folders whose answer is known, and from a real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from carbonpilot.agents.teach.best_stage import AIM
from carbonpilot.envs.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import time_to_score
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return time_to_score


def staged(run: Path, *stages: tuple[str, float, float, float], chosen: str | None) -> Path:
    """A run folder whose stages have (name, seconds, mg, share of episodes kept)."""
    keys = ("name", "seconds", "carbon_mg_per_request", "episodes_meeting_slo")
    book = {"schema": "carbonpilot/stages/1", "stages": [dict(zip(keys, s, strict=True)) for s in stages]}
    run.mkdir()
    (run / "stages.json").write_text(json.dumps(book | ({} if chosen is None else {"handed_out": chosen})))
    return run


def head_under(run: Path, *rounds: tuple[str, int, float, float], seconds: float) -> Path:
    """A card of a risk head whose stages have (name, samples, seconds, mg), all of them at the aim."""
    stages = [
        {
            "stage": n,
            "samples": k,
            "seconds": s,
            "fresh_mg_per_request": mg,
            "fresh_episodes_meeting_slo": 0.97,
        }
        for n, k, s, mg in rounds
    ]
    (run / "risk").mkdir()
    training = {"settings": {"aim": 0.97}, "stages": stages, "seconds": seconds}
    (run / "risk" / "price.json").write_text(json.dumps({"training": training}))
    return run


def test_head_teaching_and_rl_apart(bench, tmp_path):
    stages = ("untaught", 0.0, 0.41, 1.0), ("dagger", 30.0, 0.402, 1.0), ("rl", 20.0, 0.40, 1.0)
    run = staged(tmp_path / "run", *stages, chosen="rl")
    head_under(
        run, ("rule", 0, 5.0, 0.1), ("round 0", 9, 40.0, 0.5), ("final price", 9, 50.0, 0.4), seconds=100.0
    )
    found = bench.points(run)
    assert [(p.part, p.seconds) for p in found] == [
        ("head", 45.0),
        ("head", 100.0),
        ("teaching", 130.0),
        ("rl", 150.0),
    ]
    assert [p.excess for p in found] == pytest.approx([0.5 / 0.4 - 1 + 0.025, 0.025, 0.005, 0.0])
    assert [bench.seconds_of(found, part) for part in bench.PARTS] == pytest.approx([55.0 + 45.0, 30.0, 20.0])
    assert bench.until(found, 0.01).name == "dagger"
    assert bench.until(found, 0.001).name == "rl"
    assert bench.until(found, 0.03).seconds == 100.0


def test_missing_compliance_is_no_score_and_the_best_so_far_counts(bench, tmp_path):
    late = AIM - 0.02
    run = staged(
        tmp_path / "run",
        ("untaught", 0.0, 0.30, late),  # cleaner, and 2 points short: 10 % dearer
        ("dagger-1", 10.0, 0.3, AIM),
        ("dagger-2", 10.0, 0.35, AIM),
        ("rl", 10.0, 0.299, AIM),
        chosen="rl",
    )
    found = bench.points(run)
    assert bench.until(found, 0.01).name == "dagger-1"  # what dagger-2 spoiled would not have been handed out
    assert bench.until(found, 0.2).name == "untaught"


def test_the_handed_out_stage_need_not_be_the_last(bench, tmp_path):
    stages = ("untaught", 0.0, 0.40, 1.0), ("dagger", 30.0, 0.39, 1.0), ("rl", 20.0, 0.42, 1.0)
    run = staged(tmp_path / "run", *stages, chosen="dagger")
    assert bench.until(bench.points(run), 0.01).seconds == 30.0
    assert "| run | - | 30 | 20 | 50 | 30 | teaching: dagger |" in bench.table([run], 0.01)
    assert bench.table([run, run], 0.01).splitlines()[-1] == "| median | - | 30 | 20 | 50 | 30 |  |"


def test_what_cannot_be_followed_is_refused(bench, tmp_path):
    with pytest.raises(InputError, match="has not finished"):
        bench.points(staged(tmp_path / "open", ("untaught", 0.0, 0.4, 1.0), chosen=None))
    with pytest.raises(InputError, match="expected a run folder"):
        bench.points(tmp_path)
    (tmp_path / "tb").mkdir()
    (tmp_path / "emissions.json").write_text(json.dumps({"sessions": [{}, {}]}))
    with pytest.raises(InputError, match="was resumed"):
        bench.points(tmp_path)


def test_a_real_run_without_a_teacher_has_its_evaluations(bench, lab, tmp_path):
    lab.train(lab.site(tmp_path), tmp_path / "run", 2048, "ppo", seed=1)
    found = bench.points(tmp_path / "run")
    assert len(found) >= 2
    assert found[-1].final
    assert found[-1].excess == 0.0
    assert [p.seconds for p in found] == sorted(p.seconds for p in found)
    took = json.loads((tmp_path / "run" / "emissions.json").read_text())["duration_s"]
    assert 0 <= found[-1].seconds <= took + 2  # the start is kept in whole seconds
