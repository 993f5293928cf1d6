"""A site where nothing keeps the objective: said first, ranked by latency, nothing divided by zero or hidden."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from carbonpilot.agents.baselines import make_policy
from carbonpilot.agents.benchmark import benchmark, play
from carbonpilot.agents.html_page import html_page
from carbonpilot.agents.policy_registry import Contestant, contestants, default_policies
from carbonpilot.agents.report import as_json, print_report
from carbonpilot.agents.statistics import Estimate
from carbonpilot.agents.verdict import verdict
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Episode, Slo


def site(slo_ms: float):
    return load_scenario("metro").model_copy(
        update={"episode": Episode(requests=60), "slo": Slo(latency_ms=slo_ms, quantile=0.95)}
    )


HOPELESS = site(12.0)


@pytest.fixture(scope="module")
def played():
    agent = Contestant("agent", "learned", make_policy("rtt-threshold", HOPELESS))
    return play([*contestants(default_policies(HOPELESS), HOPELESS), agent], HOPELESS, 10, 0)


def printed(result) -> str:
    out = io.StringIO()
    print_report(result, Console(file=out, width=200))
    return out.getvalue()


def test_it_is_said_first_with_the_smallest_latency(played):
    assert not played.feasible
    smallest = min(r.metrics["latency_p95_ms"].mean() for r in played.results)
    assert played.smallest_p95.slo_latency_ms == pytest.approx(smallest)
    assert smallest > 12
    first = printed(played).splitlines()[0]
    assert first.startswith(
        "INFEASIBLE: no policy, hindsight included, meets the SLO (p95 <= 12 ms) in 95 % of the"
    )
    assert f"The smallest p95 reached is {smallest:.4g} [" in first
    assert played.smallest_p95.name in first
    assert verdict(played)[0] == first
    assert "Nobody can keep the objective" in html_page(played)


def test_it_is_ranked_by_latency_and_nobody_is_hidden(played):
    ranked = [r.slo_latency_ms for r in played.ranked()]
    assert ranked == sorted(ranked)
    assert {r.name for r in played.ranked()} == {r.name for r in played.results}
    carbon = [r.carbon_mg for r in played.ranked()]
    assert carbon != sorted(carbon)
    lines = [line.split()[0] for line in printed(played).splitlines() if line.startswith(" ")]
    assert lines[1:] == [r.name for r in played.ranked()]


def test_json_of_it_is_whole_and_without_ratios_that_mean_nothing(played):
    document = json.loads(json.dumps(as_json(played), allow_nan=False))
    assert document["feasible"] is False
    assert document["ranked_by"] == "latency_slo_quantile_ms"
    assert document["smallest_p95"]["policy"] == played.smallest_p95.name
    low, high = document["smallest_p95"]["ci95"]
    assert low <= document["smallest_p95"]["mean"] <= high
    assert document["certainly_infeasible"] is False
    for policy in document["policies"].values():
        assert policy["oracle_gap_closed"] == Estimate(None).as_json()
        assert policy["carbon_mg_per_request"]["mean"] > 0


def test_the_agent_is_compared_by_latency(played):
    text = " ".join(verdict(played))
    assert "WINS" not in text
    assert "LOSES" not in text
    assert "agent: " in text
    assert "ms at the objective's quantile, " in text
    same = played["rtt-threshold"].metrics["latency_p95_ms"]
    np.testing.assert_array_equal(played["agent"].metrics["latency_p95_ms"], same)


def test_a_bound_makes_it_certain(played):
    bound = np.full(10, 20.0)
    certain = dataclasses.replace(played, p95_bound_ms=bound)
    assert "No plan at all can comply: its p95 is at least 20 [20, 20] ms." in verdict(certain)[0]
    assert as_json(certain)["certainly_infeasible"] is True
    below = dataclasses.replace(played, p95_bound_ms=np.full(10, 5.0))
    assert "No plan at all" not in verdict(below)[0]


def test_every_request_late_without_an_oracle():
    found = play(contestants(["always-local", "random"], HOPELESS), HOPELESS, 1, 0)
    first = verdict(found)[0]
    assert first.startswith("INFEASIBLE: no policy that was played meets the SLO")
    assert "NaN" not in json.dumps(as_json(found), allow_nan=False)
    assert "<svg" in html_page(found)


def test_a_site_that_can_be_kept_says_nothing_of_the_kind():
    found = benchmark(site(2000.0), episodes=4)
    assert found.feasible
    assert "INFEASIBLE" not in printed(found)
    assert as_json(found)["ranked_by"] == "carbon_mg_per_request"
