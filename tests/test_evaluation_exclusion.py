"""Policies that cannot be judged are named with the reason, and the others' results stay as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from carbonpilot.agents import benchmark as benchmark_module
from carbonpilot.agents.baselines import BatchRule
from carbonpilot.agents.benchmark import benchmark, play
from carbonpilot.agents.html_page import html_page
from carbonpilot.agents.policy_registry import Contestant, contestants
from carbonpilot.agents.report import as_json
from carbonpilot.agents.rollout import PolicyError, run_policy
from carbonpilot.agents.verdict import verdict
from carbonpilot.envs.errors import CarbonPilotError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Episode
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.tape import evaluation_seeds

METRO = load_scenario("metro").model_copy(update={"episode": Episode(requests=30)})
PLACEMENTS = len(METRO.placements)


class Answers:
    """A policy that stays local and gives a bad answer at one request."""

    name = "bad"

    def __init__(self, answer, at: int = 7) -> None:
        self.answer, self.at, self.request = answer, at, 0

    def reset(self, batch: int) -> None:
        self.request = 0

    def decide(self, observation, mask):
        self.request += 1
        local = np.zeros(len(observation), dtype=np.int64)
        return self.answer(local) if self.request - 1 == self.at else local


def failing(local):
    raise KeyError("weight_3")


def with_value(value, dtype=None):
    def answer(local):
        changed = local.astype(dtype or local.dtype)
        changed[1] = value
        return changed

    return answer


BAD = {
    "raised KeyError at request 7: 'weight_3'": failing,
    f"answered placements 0 to {PLACEMENTS} where 0 to {PLACEMENTS - 1} exist at request 7": with_value(
        PLACEMENTS
    ),
    f"answered placements -1 to 0 where 0 to {PLACEMENTS - 1} exist at request 7": with_value(-1),
    "answered NaN in 1 of 4 episodes at request 7": with_value(np.nan, np.float64),
    "answered float64 where placements are integers at request 7": with_value(0.5, np.float64),
    "answered bool where placements are integers at request 7": with_value(True, np.bool_),
    "answered object where placements are integers at request 7": lambda local: None,
    "answered shape (3,) where (4,) was asked for": lambda local: local[:-1],
    "answered shape (4, 1) where (4,) was asked for": lambda local: local[:, None],
    "answered shape () where (4,) was asked for": lambda local: 0,
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_answer_is_named_and_the_others_are_kept(reason):
    good = contestants(["always-local", "rtt-threshold", "oracle-warm-radio"], METRO)
    bad = Contestant("bad", "rule", Answers(BAD[reason]))
    found = play([good[0], bad, *good[1:]], METRO, 4, 0)
    (excluded,) = found.excluded
    assert (excluded.name, excluded.kind, excluded.asked) == ("bad", "rule", True)
    assert reason in excluded.reason
    assert f"EXCLUDED: bad {excluded.reason}." in verdict(found)
    alone = play(contestants(["always-local", "rtt-threshold", "oracle-warm-radio"], METRO), METRO, 4, 0)
    assert [r.name for r in found.results] == [r.name for r in alone.results]
    for mine, expected in zip(found.results, alone.results, strict=True):
        for name, values in expected.metrics.items():
            np.testing.assert_array_equal(mine.metrics[name], values)
    document = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert document["excluded"][0]["reason"] == excluded.reason
    assert "bad" not in document["policies"]
    assert "excluded: " in html_page(found)


def test_whole_numbers_of_any_integer_type_are_placements():
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        policy = Answers(lambda local, dtype=dtype: local.astype(dtype) + dtype(1))
        record = run_policy(policy, METRO, evaluation_seeds(0, 4))
        assert record.placement[7].tolist() == [1, 1, 1, 1]


def test_a_masked_placement_is_illegal(monkeypatch):
    mask = np.ones((4, PLACEMENTS), dtype=bool)
    mask[2, 1] = False
    monkeypatch.setattr(Simulator, "masks", lambda self: mask)
    with pytest.raises(PolicyError, match="chose a masked placement in 1 of 4 episodes at request 7"):
        run_policy(Answers(lambda local: local + 1), METRO, evaluation_seeds(0, 4))
    found = play(contestants(["always-local", "always-edge-b0"], METRO), METRO, 4, 0)
    assert found.excluded == ()  # the baselines look at the mask
    assert found["always-edge-b0"].shares[0].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_what_leads_to_nan_is_excluded(monkeypatch):
    real = benchmark_module.run_policy

    def spoiled(policy, *arguments, **options):
        record = real(policy, *arguments, **options)
        if policy.name == "always-edge-b0":
            record.energy_j[3, 1] = np.nan
        return record

    monkeypatch.setattr(benchmark_module, "run_policy", spoiled)
    found = play(contestants(["always-local", "always-edge-b0"], METRO), METRO, 4, 0)
    assert [e.reason for e in found.excluded] == ["led to NaN in energy_j_per_request"]


def test_failing_at_the_start_is_named_too():
    class Unready(BatchRule):
        name = "unready"

        def reset(self, batch: int) -> None:
            raise RuntimeError("no\n  weights " + "x" * 500)

    found = play(
        [*contestants(["always-local"], METRO), Contestant("unready", "rule", Unready())], METRO, 2, 0
    )
    reason = found.excluded[0].reason
    assert reason.startswith("raised RuntimeError before the first request: no weights xxx")
    assert len(reason) < 300
    assert "\n" not in reason


def test_progress_reaches_the_end_past_a_policy_that_fails():
    seen = []
    entries = [*contestants(["always-local", "random"], METRO), Contestant("bad", "rule", Answers(failing))]
    play([entries[0], entries[2], entries[1]], METRO, 4, 0, progress=lambda *told: seen.append(told))
    done = [d for _, d, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][2] == 3 * 4 * 30


def test_only_what_was_asked_for_by_name_counts_as_a_failure(monkeypatch):
    def entries(names, scenario, seed, tuned):
        found = contestants([n for n in names if n != "mine"], scenario, seed)
        found = [Contestant(e.name, e.kind, Answers(failing)) if e.name == "random" else e for e in found]
        return [*found, Contestant("mine", "learned", Answers(failing))] if "mine" in names else found

    monkeypatch.setattr(benchmark_module, "contestants", entries)
    default = benchmark(METRO, episodes=2)
    assert [(e.name, e.asked) for e in default.excluded] == [("random", False)]
    assert not default.failed_asked
    asked = benchmark(METRO, ["mine"], episodes=2)
    assert [(e.name, e.asked) for e in asked.excluded] == [("random", False), ("mine", True)]
    assert asked.failed_asked
    assert benchmark(METRO, ["random"], episodes=2).failed_asked


def test_nobody_left_is_an_error_that_names_all():
    entries = [Contestant(name, "rule", Answers(failing)) for name in ("one", "two")]
    with pytest.raises(
        CarbonPilotError, match=r"No policy could be judged: one raised KeyError.*; two raised"
    ):
        play(entries, METRO, 2, 0)


def test_an_interruption_and_a_broken_scenario_are_nobodys_fault(monkeypatch):
    def interrupted(local):
        raise KeyboardInterrupt

    entries = [*contestants(["always-local"], METRO), Contestant("bad", "rule", Answers(interrupted))]
    with pytest.raises(KeyboardInterrupt):
        play(entries, METRO, 2, 0)

    def broken(self, seeds):
        raise CarbonPilotError("trace ended")

    monkeypatch.setattr(Simulator, "reset", broken)
    with pytest.raises(CarbonPilotError, match="trace ended") as caught:
        play(contestants(["always-local"], METRO), METRO, 2, 0)
    assert not isinstance(caught.value, PolicyError)
