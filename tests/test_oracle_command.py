"""`carbonpilot oracle`: its table, its JSON, and what it says where nothing meets the SLO."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from carbonpilot.envs.compiling import forget_stale_code
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, merge, scenario_sha256
from carbonpilot.envs.schema import Scenario
from carbonpilot.oracle.command import run_oracle
from carbonpilot.oracle.coupled import Effort
from carbonpilot.oracle.dual import Climb
from carbonpilot.oracle.plan_policy import PlanPolicy
from carbonpilot.oracle.replay import replay, tapes_for
from carbonpilot.oracle.solvers import make_oracle

QUICK = Effort(climb=Climb(steps=40, refresh=20), again=10, factors=(1.0,), width=4, points=6, swaps=1)


def site(**changes):
    data = load_scenario("metro").model_dump(mode="json", by_alias=True)
    return Scenario.model_validate(merge(data, {"episode": {"requests": 40}, **changes}))


def run(scenario, **options):
    console = Console(file=io.StringIO(), width=200)
    results = run_oracle(scenario, console=console, effort=QUICK, **options)
    return results, console.file.getvalue()


def test_table_and_json_agree(tmp_path):
    scenario, file = site(), tmp_path / "oracle.json"
    results, text = run(scenario, episodes=3, seed=5, json_file=file)
    content = json.loads(file.read_text())
    assert list(results) == ["oracle-per-request", "oracle-warm-radio", "oracle-budget", "oracle-coupled"]
    assert list(content["policies"]) == list(results)
    assert content["schema"] == "carbonpilot/oracle/1"
    assert content["scenario_sha256"] == scenario_sha256(scenario)
    assert (content["scenario"], content["seed"], content["episodes"]) == ("metro", 5, 3)
    for name, result in results.items():
        assert name in text
        figures = content["policies"][name]
        assert figures["carbon_mg_per_request"]["mean"] == pytest.approx(result.value_mg.mean())
        assert f"{result.value_mg.mean():.4f}" in text
        assert sum(figures["placement_share"]) == pytest.approx(1)
        assert figures["tapes"]["misses"] == result.misses.tolist()
    coupled = content["policies"]["oracle-coupled"]
    assert 0 <= coupled["gap"]["mean"] <= coupled["gap"]["max"] < 1
    assert content["policies"]["oracle-budget"]["gap"] is None  # certifies nothing, and says so
    for result in results.values():
        better = results["oracle-coupled"].value_mg <= result.value_mg + 1e-12
        assert better[result.feasible].all()


def test_one_oracle_alone_and_the_same_tapes_every_time():
    first, _ = run(site(), episodes=2, which=["oracle-budget"])
    second, _ = run(site(), episodes=2, which=["oracle-budget"])
    assert list(first) == ["oracle-budget"]
    np.testing.assert_array_equal(first["oracle-budget"].plan, second["oracle-budget"].plan)


def test_says_where_nothing_meets_the_slo():
    results, text = run(site(slo={"latency_ms": 15.0}), episodes=2)
    assert not any(r.feasible.any() for r in results.values())
    words = " ".join(text.split())
    assert "No oracle found a plan that keeps p95 <= 15 ms on 2 of 2 tapes" in words
    assert "on 2 of them it is certain that there is none" in words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": ["oracle-copled"]}, "oracle-coupled"),
        ({"episodes": 0}, "at least 1"),
        ({"json_file": "/"}, "folder"),
    ],
)
def test_refuses_what_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        run(site(), **options)


def test_a_plan_of_another_length_is_refused():
    scenario = site()
    with pytest.raises(InputError, match="made for another"):
        replay(scenario, tapes_for(scenario, [1, 2]), np.zeros((39, 2), dtype=int))


def test_plan_policy_asks_for_what_it_needs():
    with pytest.raises(ValueError, match="not both"):
        PlanPolicy("x")
    with pytest.raises(RuntimeError, match="bind"):
        make_oracle("oracle-budget", site()).decide(np.zeros((2, 3), np.float32), np.ones((2, 5), dtype=bool))
    with pytest.raises(InputError, match="oracle-budget"):
        make_oracle("oracle-budgt", site())


def test_machine_code_is_forgotten_when_the_physics_change(tmp_path):
    folder, physics = tmp_path / "oracle", tmp_path / "envs" / "physics.py"
    (folder / "__pycache__").mkdir(parents=True)
    physics.parent.mkdir()
    physics.write_text("a = 1")
    assert forget_stale_code(folder, physics.parent)
    code = folder / "__pycache__" / "arcs.enumerate.py311.1.nbc"
    code.write_text("machine code")
    assert not forget_stale_code(folder, physics.parent)
    assert code.exists()
    physics.write_text("a = 2")
    assert forget_stale_code(folder, physics.parent)
    assert not code.exists()
