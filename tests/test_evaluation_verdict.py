"""The verdict and the numbers behind it: the opponent, differences, compliance and the gap to hindsight."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scores_builder import EPISODES, SCENARIO, result, scores

from carbonpilot.agents import report
from carbonpilot.agents.benchmark import BenchmarkResult
from carbonpilot.agents.certified import certified_gap
from carbonpilot.agents.comparison import best_matched
from carbonpilot.agents.statistics import Estimate
from carbonpilot.agents.verdict import best_complying, compare, verdict
from carbonpilot.envs.errors import InputError


def test_the_opponent_is_the_cleanest_that_complies_and_neither_learned_nor_knows_the_future():
    found = result(scores("agent", "learned", 0.25))
    assert best_complying(found).name == "rtt-threshold"  # not the dirty edge, the oracle or the agent
    assert found.reference.name == "always-local"
    assert found.oracle.name == "oracle-per-request"


@pytest.mark.parametrize(
    ("carbon_mg", "met", "outcome", "words"),
    [
        (0.25, 1.0, "wins", "agent WINS against the best rule (rtt-threshold): it emits 16.7 % less ["),
        (0.35, 1.0, "loses", "agent LOSES, the best rule (rtt-threshold) wins: it emits 16.7 % more ["),
        (0.3001, 1.0, "no clear difference", "NO CLEAR DIFFERENCE to the best rule (rtt-threshold)"),
        (
            0.10,
            0.9,
            "does not comply",
            "agent DOES NOT COMPLY: it meets the SLO in 90.0 % [85.1, 93.4] of the",
        ),
        (0.25, 0.95, "buys carbon with misses", "agent BUYS CARBON WITH MISSES and does not win against"),
    ],
)
def test_verdict_says_what_the_numbers_say(carbon_mg, met, outcome, words):
    agent = scores("agent", "learned", carbon_mg, met, noise=0.02)
    found = result(agent)
    assert compare(found, agent, found["rtt-threshold"]).outcome == outcome
    text = " ".join(verdict(found))
    assert words in text
    assert ("WINS" in text) == (outcome == "wins")


def test_difference_and_its_direction():
    agent = scores("agent", "learned", 0.25)
    found = result(agent)
    c = compare(found, agent, found["rtt-threshold"])
    assert c.carbon_difference_mg.mean == pytest.approx(-0.05)
    assert c.carbon_difference_mg.low < -0.05 < c.carbon_difference_mg.high < -0.04
    assert c.relative_difference.mean == pytest.approx(-1 / 6)
    assert c.probability_of_improvement.mean > 0.95
    low, high = (-c.relative_difference.high, -c.relative_difference.low)
    assert low < 1 / 6 < high
    assert f"16.7 % less [{100 * low:.1f}, {100 * high:.1f}] at equal SLO" in " ".join(verdict(found))


def test_carbon_that_is_bought_with_misses_is_marked_and_does_not_win():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25, met=0.95))))
    assert "WINS" not in text
    assert "at LOWER SLO compliance (met in 95.0 % against 100.0 % of the episodes, -5.0 points [-" in text
    text = " ".join(verdict(result(scores("agent", "learned", 0.25, met=0.995))))
    assert "WINS" in text
    assert "at equal SLO compliance (met in 99.5 % against 100.0 % of the episodes, -0.5 points [" in text


def test_a_hard_cut_is_brittle_so_the_comparison_without_one_is_printed_too():
    """A rule at 94.5 % does not comply, yet it is cleaner than the agent that misses more than it."""
    near = scores("near-rule", "rule", 0.2, met=0.945)
    found = result(scores("agent", "learned", 0.25, met=0.90), near)
    text = " ".join(verdict(found))
    assert "Cleaner and only just below the cut of 95 %: near-rule (94.5 %, 0.2 mg)." in text
    assert "Against near-rule, the cleanest without learning that meets the SLO at least as often" in text
    assert "(94.5 %), it emits 25.0 % more [" in text
    better = result(scores("agent", "learned", 0.25, met=1.0), near)
    assert best_matched(better, better["agent"]).name == "rtt-threshold"
    assert "rtt-threshold is also the cleanest without learning that meets" in " ".join(verdict(better))


def test_nobody_without_learning_as_compliant_is_said():
    found = result(scores("agent", "learned", 0.25), rule_met=0.97)
    only = tuple(r for r in found.results if r.name != "always-local")
    text = " ".join(verdict(BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", only)))
    assert "No policy without learning meets the SLO as often as it does." in text
    assert "at higher SLO compliance" in text


def test_a_tuned_rule_is_called_one():
    tuned = dataclasses.replace(scores("slo-predictive", "rule", 0.22), tuned=True)
    found = result(scores("agent", "learned", 0.25), tuned)
    assert "agent LOSES, the best tuned rule (slo-predictive) wins: it emits 13.6 %" in " ".join(
        verdict(found)
    )


def test_one_training_seed_is_said_not_to_cover_the_noise_of_training():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25))))
    assert "agent: one training seed, so the noise of training is not covered" in text


def test_probability_of_improvement_has_an_interval_even_where_it_is_one():
    agent = scores("agent", "learned", 0.1)
    found = result(agent)
    improvement = compare(found, agent, found["always-local"]).probability_of_improvement
    assert improvement.mean == improvement.high == 1.0
    assert 0.97 < improvement.low < 0.99  # Wilson: 200 of 200


def test_a_bound_certifies_how_much_is_left():
    agent = scores("agent", "learned", 0.25)
    late = scores("late", "learned", 0.15, met=0.5)
    bound = np.where(np.arange(EPISODES) < 190, 0.2, np.nan)  # ten tapes that no plan can keep
    found = dataclasses.replace(result(agent, late), bounds={"coupled": bound})
    gap = certified_gap(found, agent, "coupled")
    assert gap.mean == pytest.approx(1 - 0.2 / agent.metrics["carbon_mg_per_request"][:190].mean())
    assert gap.low < gap.mean < gap.high
    assert certified_gap(found, late, "coupled") == Estimate(None)  # misses can buy less than the bound
    document = report.as_json(found)
    assert document["bounds"]["coupled"]["lower_bound_mg"]["mean"] == pytest.approx(0.2)
    assert document["policies"]["agent"]["certified_gap"]["coupled"]["mean"] == pytest.approx(gap.mean)
    assert "No plan that meets the SLO emits less than 0.2 " in " ".join(document["verdict"])
    with pytest.raises(InputError, match="one number for each of the 200 episodes"):
        dataclasses.replace(found, bounds={"coupled": bound[:50]})


def test_carbon_of_policies_that_do_not_comply_is_not_compared():
    text = " ".join(verdict(result(scores("agent", "learned", 0.25))))
    assert "clearly cleaner than always-local, rtt-threshold;" in text
    assert (
        "beyond comparison, because they do not comply and are not clearly dirtier: always-edge-b0." in text
    )


def test_a_policy_that_is_dirtier_and_does_not_comply_is_dominated():
    dirty = scores("always-edge-b4", "static", 0.9, met=0.1)
    found = result(scores("agent", "learned", 0.25), dirty)
    assert "more often within the SLO than (these do not comply) always-edge-b4" in " ".join(verdict(found))


def test_verdict_without_any_complying_rule_and_without_any_agent():
    field = result(scores("agent", "learned", 0.25), rule_met=0.5)
    dirty = tuple(r for r in field.results if r.name != "always-local")
    local = scores("always-local", "static", 0.50, met=0.0)
    nobody = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", (local, *dirty))
    text = " ".join(verdict(nobody))
    assert "No policy without learning complies" in text
    assert "the nearest is rtt-threshold with 50.0 %" in text
    assert "agent COMPLIES, which no policy without learning does: SLO met in 100.0 %" in text
    assert "No static placement complies, so the gap is counted from always-local" in text
    assert verdict(result())[0].startswith("Best complying policy without learning: rtt-threshold")


def test_gap_and_regret():
    found = result(scores("agent", "learned", 0.29))
    estimates = found.estimates["agent"]
    assert estimates["oracle_gap_closed"].mean == pytest.approx((0.50 - 0.29) / (0.50 - 0.20))
    assert estimates["regret_mg_per_request"].mean == pytest.approx(0.09)
    assert found.estimates["oracle-per-request"]["oracle_gap_closed"].mean == pytest.approx(1.0)
    assert found.estimates["always-local"]["oracle_gap_closed"].mean == pytest.approx(0.0)


def test_the_share_of_hindsights_saving_is_said_of_those_that_comply():
    text = " ".join(
        verdict(result(scores("agent", "learned", 0.32), scores("late", "learned", 0.21, met=0.5)))
    )
    assert "60.0 % less" in text  # hindsight, 0.20 mg, than always-local, 0.50
    reached = text.partition("Of that saving reach ")[2].partition(". ")[0]
    assert [word for word in reached.replace(",", " ").split() if word[0].isalpha()] == [
        "rtt-threshold",
        "and",
        "agent",
    ]
    assert "rtt-threshold 67 % [" in reached
    assert "agent 60 % [" in reached
    assert "Of that saving rtt-threshold" not in text
    nothing = [r for r in result().results if r.kind != "oracle"] + [scores("oracle-budget", "oracle", 0.498)]
    assert "Of that saving" not in " ".join(
        verdict(BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", tuple(nothing)))
    )


def test_hindsight_is_the_cleanest_oracle_that_complies():
    warm = scores("oracle-warm-radio", "oracle", 0.18)
    field = result().results
    assert BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", (*field, warm)).oracle is warm
    late = scores("oracle-warm-radio", "oracle", 0.18, met=0.9)
    found = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", (*field, late))
    assert found.oracle.name == "oracle-per-request"


def test_gap_does_not_exist_where_the_oracle_saves_nothing():
    field = [r for r in result().results if r.kind != "oracle"]
    field.append(scores("oracle-per-request", "oracle", 0.498))
    found = BenchmarkResult(SCENARIO, 0, EPISODES, "evaluation", tuple(field))
    assert found.estimates["rtt-threshold"]["oracle_gap_closed"] == Estimate(None)
