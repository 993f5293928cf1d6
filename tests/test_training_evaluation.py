"""The oracle's share in TensorBoard is measured against the strongest oracle that the site has."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.metrics import episode_metrics
from carbonpilot.agents.policy_registry import resolve
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.training_evaluation import SAVING, TrainingEvaluation
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Episode
from carbonpilot.envs.tape import evaluation_seeds

EPISODES, REQUESTS = 6, 300


def short(name: str):
    return load_scenario(name).model_copy(update={"episode": Episode(requests=REQUESTS)})


def carbon_mg(policy, scenario) -> float:
    record = run_policy(policy, scenario, evaluation_seeds(3, EPISODES), "evaluation", None)
    return float(np.mean(episode_metrics(record, scenario.slo)["carbon_mg_per_request"]))


@pytest.mark.parametrize(
    ("site", "strongest"), [("metro", "oracle-warm-radio"), ("khan-lan", "oracle-per-request")]
)
def test_the_strongest_oracle_is_the_measure(site, strongest):
    scenario = short(site)
    assert (strongest == "oracle-warm-radio") == (scenario.device.radio is not None)
    measured = TrainingEvaluation(scenario, 3, EPISODES, None).oracle_mg
    assert measured == carbon_mg(resolve(strongest, scenario), scenario)


def test_the_share_is_zero_for_local_and_one_for_the_oracle():
    scenario = short("metro")
    evaluation = TrainingEvaluation(scenario, 3, EPISODES, None)
    assert evaluation.measure(resolve("always-local", scenario))[SAVING] == 0
    assert evaluation.measure(resolve("oracle-warm-radio", scenario))[SAVING] == 1
    # The other oracle is no measure, so it has a share of its own.
    per_request = evaluation.measure(resolve("oracle-per-request", scenario))[SAVING]
    expected = evaluation.local_mg - carbon_mg(resolve("oracle-per-request", scenario), scenario)
    assert per_request != 1
    assert per_request == pytest.approx(expected / (evaluation.local_mg - evaluation.oracle_mg))
